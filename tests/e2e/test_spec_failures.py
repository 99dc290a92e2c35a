"""What a spec, a name or a permission can be wrong about: named on the ModelDeployment, and curable."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from e2e.stand import ARCHIVE, LIKE_OFFICIAL, Stand
from serval_lab import Lab
from support.cluster import Object, condition
from support.ledger import provokes
from support.wait import until

SMALL = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "2Gi"}}
SOON = 90.0
TAINT = "example.com/reserved"
ACCOUNT = "fetcher"
ALLOWED = {"serval.dev/allowed": "true"}
POLICY = "no-headless-services"


def message(obj: Object) -> str:
    """What its Ready condition says."""
    text: str = condition(obj, "Ready")["message"]
    return text


def scheduled(stand: Stand, name: str) -> None:
    """Wait until all pods of a ModelDeployment have a node: what held it up before that is gone."""
    stand.cluster.until_condition(stand.namespace, name, "Scheduled", "True", limit=SOON)


@provokes("UnknownRuntime", "a runtime that does not exist")
@provokes("UnknownProfile", "an accelerator profile that does not exist")
@pytest.mark.parametrize(
    ("spec", "reason", "words", "cure"),
    [
        ({"runtime": {"name": "unheard-of"}}, "UnknownRuntime", "serval", {"runtime": None}),
        (
            {"accelerator": {"profile": "unheard-of"}},
            "UnknownProfile",
            "nvidia-gpu",
            {"accelerator": {"profile": "cpu"}},
        ),
        (
            {"runtime": {"name": "crash"}, "endpoint": {"rawBytes": "Enabled"}},
            "UnsupportedSpec",
            "serval",
            {"runtime": {"name": "serval"}},
        ),
    ],
    ids=["runtime", "profile", "raw bytes"],
)
def test_what_the_configuration_lacks(
    stand: Stand, spec: dict[str, Any], reason: str, words: str, cure: dict[str, Any]
) -> None:
    stand.create("odd", resources=SMALL, **spec)
    cr = stand.failing("odd", reason, limit=10)
    assert words in message(cr)
    assert condition(cr, "Stalled")["status"] == "True"
    assert not stand.pods("odd")
    stand.patch("odd", **cure)
    scheduled(stand, "odd")


@provokes("UnsupportedSpec", "a model that the runtime cannot serve")
def test_a_framework_that_the_runtime_does_not_serve(stand: Stand) -> None:
    stand.create("odd", resources=SMALL, runtime={"name": LIKE_OFFICIAL})
    assert "serval" in message(stand.failing("odd", "UnsupportedSpec", limit=10))
    assert not stand.pods("odd")
    stand.patch("odd", runtime=None)
    scheduled(stand, "odd")


class TestCredentials:
    @provokes("CredentialsNotFound", "no such Secret with credentials")
    def test_a_secret_that_is_missing(self, stand: Stand) -> None:
        stand.create(
            "keyless", resources=SMALL, model={**stand.model, "credentials": {"secretRef": {"name": "keys"}}}
        )
        assert "keys" in message(stand.failing("keyless", "CredentialsNotFound"))
        stand.patch("keyless", model={"credentials": None})
        stand.cluster.until_condition(stand.namespace, "keyless", "ModelFetched", "True", limit=SOON)

    def test_an_account_that_is_missing(self, stand: Stand) -> None:
        credentials = {"serviceAccountName": ACCOUNT}
        stand.create("orphan", resources=SMALL, model={**stand.model, "credentials": credentials})
        assert ACCOUNT in message(stand.failing("orphan", "CredentialsNotFound", limit=10))
        stand.cluster.create(account(stand, labels=ALLOWED))
        scheduled(stand, "orphan")

    @provokes("ReferenceNotPermitted", "a ServiceAccount whose owner does not offer it")
    def test_an_account_that_is_not_meant_for_it(self, stand: Stand) -> None:
        stand.cluster.create(account(stand))
        credentials = {"serviceAccountName": ACCOUNT}
        stand.create("borrower", resources=SMALL, model={**stand.model, "credentials": credentials})
        cr = stand.failing("borrower", "ReferenceNotPermitted", limit=10)
        assert "serval.dev/allowed" in message(cr)
        assert not stand.pods("borrower")
        labels = {"metadata": {"labels": ALLOWED}}
        stand.cluster.patch("ServiceAccount", stand.namespace, ACCOUNT, labels)
        scheduled(stand, "borrower")


def account(stand: Stand, **metadata: Any) -> Object:
    """A ServiceAccount."""
    named = {"name": ACCOUNT, "namespace": stand.namespace, **metadata}
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": named}


class TestChildren:
    @provokes("ResourceConflict", "a Service of the same name that is someone else's")
    def test_a_service_of_the_same_name_that_is_someone_elses(self, stand: Stand) -> None:
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "taken", "namespace": stand.namespace},
            "spec": {"ports": [{"port": 1234}], "selector": {"app": "other"}},
        }
        stand.cluster.create(service)
        stand.create("taken", resources=SMALL)
        assert "Service/taken" in message(stand.failing("taken", "ResourceConflict", limit=10))
        found = stand.cluster.get("Service", stand.namespace, "taken")
        assert found is not None
        assert found["spec"]["selector"] == {"app": "other"}
        stand.cluster.delete("Service", stand.namespace, "taken")
        scheduled(stand, "taken")
        stand.cluster.until_condition(stand.namespace, "taken", "EndpointReady", "True", limit=SOON)

    @provokes("ChildRefused", "an admission policy refuses a Service")
    def test_a_policy_that_refuses_what_is_needed(self, stand: Stand, cluster_lab: Lab) -> None:
        with refused_services(stand, cluster_lab):
            stand.create("forbidden", resources=SMALL)
            assert POLICY in message(stand.failing("forbidden", "ChildRefused", limit=20))
        stand.cluster.until_condition(stand.namespace, "forbidden", "EndpointReady", "True", limit=180)

    @provokes("PodCreateFailed", "a PriorityClass that does not exist")
    def test_pods_that_may_not_be_created(self, stand: Stand) -> None:
        stand.create("important", resources=SMALL, scheduling={"priorityClassName": "no-such-class"})
        assert "no-such-class" in message(stand.failing("important", "PodCreateFailed"))
        stand.patch("important", scheduling=None)
        scheduled(stand, "important")


@contextmanager
def refused_services(stand: Stand, lab: Lab) -> Iterator[None]:
    """For a while nobody may make a headless Service in the namespace."""
    rules = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["services"]}]
    here = {"matchLabels": {"kubernetes.io/metadata.name": stand.namespace}}
    refusal = {"expression": "object.spec.clusterIP != 'None'", "message": "no headless Services here"}
    policy = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": rules},
        "validations": [refusal],
    }
    binding = {
        "policyName": POLICY,
        "validationActions": ["Deny"],
        "matchResources": {"namespaceSelector": here},
    }
    kinds = {"ValidatingAdmissionPolicy": policy, "ValidatingAdmissionPolicyBinding": binding}
    objects = [
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": kind,
            "metadata": {"name": POLICY},
            "spec": spec,
        }
        for kind, spec in kinds.items()
    ]
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    lab.kubectl("apply", "-f", "-", stdin=listed)
    trial = ["create", "service", "clusterip", "trial", "--clusterip=None", "--dry-run=server"]
    try:
        until(
            "the policy in force",
            lambda: lab.kubectl("-n", stand.namespace, *trial, check=False).returncode != 0,
        )
        yield
    finally:
        lab.kubectl("delete", "-f", "-", stdin=listed)


@provokes("UntoleratedTaint", "the GPU node is tainted")
def test_a_taint_that_the_pod_does_not_tolerate(stand: Stand, cluster_lab: Lab) -> None:
    cluster_lab.kubectl("taint", "node", "gpu-0", f"{TAINT}=true:NoSchedule")
    try:
        stand.create("shut-out", resources=SMALL, accelerator={"profile": "nvidia-gpu"})
        cr = stand.failing("shut-out", "UntoleratedTaint", limit=20)
        assert TAINT in message(cr)
        assert "gpu-0" in message(cr)
        assert not stand.pods("shut-out")
    finally:
        cluster_lab.kubectl("taint", "node", "gpu-0", f"{TAINT}-")
    scheduled(stand, "shut-out")


@provokes("StartDeadlineExceeded", "no answer by a deadline of 10 s")
def test_a_model_that_does_not_answer_by_the_deadline(stand: Stand) -> None:
    # Asked once before the server can answer, and again after five minutes.
    rarely = {"startup": {"periodSeconds": 300}}
    stand.create("slow", resources=SMALL, probes=rarely, rollout={"startDeadlineSeconds": 10})
    assert "10 s" in message(stand.failing("slow", "StartDeadlineExceeded"))
    stand.patch("slow", probes=None)
    stand.serving("slow")


@provokes("ModelVersionSkew", "the files changed before another replica came")
def test_a_replica_that_finds_another_model(stand: Stand) -> None:
    stand.create("skewed", resources=SMALL)
    stand.serving("skewed")
    found = stand.cluster.until(
        "the version bound",
        "ModelDeployment",
        stand.namespace,
        "skewed",
        lambda one: one["status"]["model"].get("pinned"),
    )
    before = found["status"]["model"]["digest"]
    kept = stand.store.answers[ARCHIVE]
    assert isinstance(kept, bytes)
    stand.store.answers[ARCHIVE] = with_file(kept, "1/assets/changed.txt")
    stand.patch("skewed", replicas=2)
    cr = stand.failing("skewed", "ModelVersionSkew")
    assert condition(cr, "Available")["status"] == "True"
    assert before in message(cr)
    stand.patch("skewed", rollout={"trigger": "1"})
    stand.cluster.until(
        "the new model in both replicas",
        "ModelDeployment",
        stand.namespace,
        "skewed",
        lambda one: (
            one["status"]["model"].get("digest", before) != before
            and condition(one, "Ready")["status"] == "True"
        ),
        limit=240,
    )


def with_file(archive: bytes, name: str) -> bytes:
    """An archive with one more file in it."""
    packed = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as old,
        tarfile.open(fileobj=packed, mode="w:gz") as new,
    ):
        for member in old.getmembers():
            new.addfile(member, old.extractfile(member) if member.isfile() else None)
        added = tarfile.TarInfo(name)
        added.size = 1
        new.addfile(added, io.BytesIO(b"x"))
    return packed.getvalue()
