"""The whole status as it is stored."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from serval_operator.api.blocks.rollout import IN_PLACE, SURGE
from serval_operator.api.conditions import Blocked
from serval_operator.api.judgement import Judgement, Status
from serval_operator.kinds.model_deployment.judge import endpoints
from serval_operator.pods.observation import Observed
from serval_operator.workload.effective_spec import EffectiveSpec
from serval_operator.workload.manifests.revision import facts_of
from serval_operator.workload.readiness import Expected, assess
from serval_operator.workload.status import CONDITIONS, Served, build_status
from support import gen
from unit.crd.schema import CRD_FILE
from unit.operator.configuration import resolved
from unit.operator.pods.pod_rows import ROWS
from unit.operator.workload.observing import observed

pytestmark = pytest.mark.unit

TENSORS: dict[str, Any] = {
    "inputs": [{"name": "images", "dtype": "DT_STRING", "shape": [-1]}],
    "outputs": [{"name": "classes", "dtype": "DT_INT64", "shape": [-1]}],
}
READY = (gen.fetched(**TENSORS), gen.ready())
OLD = "ffffffffff"


def built(
    seen: Observed,
    come_to: EffectiveSpec | None = None,
    *,
    revision: str = gen.REVISION,
    blocked: Blocked | None = None,
    **more: Any,
) -> Status:
    """Status of an observation whose spec comes to ``come_to`` (None: as the default model)."""
    plan = come_to or resolved()
    spec = None if blocked else plan.spec
    readiness = assess(
        seen,
        Expected(
            wanted=spec.wanted_replicas if spec else 0,
            revision="" if blocked else revision,
            suspended=bool(spec and spec.suspend),
            blocked=blocked,
        ),
    )
    facts = more.pop("facts", facts_of(plan))
    served = None if blocked else Served(plan.model, endpoints(seen.model, plan.model, facts), facts)
    part = build_status(seen, readiness, spec, "" if blocked else revision, served=served, **more)
    return Judgement(part, readiness.conditions).stored(seen.model, CONDITIONS, seen.now)


def condition(kind: str, status: str, reason: str, message: str, *, after: float = 60) -> gen.Object:
    return {
        "type": kind,
        "status": status,
        "observedGeneration": 1,
        "lastTransitionTime": gen.stamp(after),
        "reason": reason,
        "message": message,
    }


WHOLE: Status = {
    "observedGeneration": 1,
    "replicas": 1,
    "readyReplicas": 1,
    "updatedReplicas": 1,
    "replicasSummary": "1/1",
    "modelSummary": "digits/3",
    "selector": ",".join(f"{name}={value}" for name, value in sorted(gen.labels("digits").items())),
    "revision": gen.REVISION,
    "placement": [{"node": gen.NODE, "replicas": 1}],
    "endpoints": {
        "grpc": "digits.vision.svc:8500",
        "rest": "http://digits.vision.svc:8501/v1/models/digits",
        "scoring": "http://digits.vision.svc/score",
    },
    "model": {"name": "digits", "version": 3, "digest": gen.DIGEST, **TENSORS},
    "effective": {
        "runtime": "serval",
        "image": "registry.example/serval-server:1",
        "strategy": "Surge",
    },
    "conditions": [
        condition("Ready", "True", "Serving", "1 of 1 replicas serve the newest spec"),
        condition("Available", "True", "ModelAnswers", "1 of 1 pods answer"),
        condition("Scheduled", "True", "Done", "1 of 1 pods"),
        condition("ModelFetched", "True", "Done", "1 of 1 pods"),
        condition("ModelLoaded", "True", "Done", "1 of 1 pods"),
        condition("EndpointReady", "True", "Done", "1 pod behind the Service"),
    ],
}


class TestWhole:
    def test_serving(self) -> None:
        seen = observed(gen.pod("digits-1", *READY))
        assert built(seen, strategy=SURGE) == {**WHOLE, "servingRevision": gen.REVISION}

    def test_failing(self) -> None:
        crash = gen.server_crashed(1, "boom")
        words = "1 of 1 pods: the model server ended with exit code 1: boom"
        told = ("False", "CrashLoop", words)
        assert built(observed(gen.pod("digits-1", crash)), strategy=SURGE) == {
            **WHOLE,
            "readyReplicas": 0,
            "replicasSummary": "0/1",
            "model": {"name": "digits", "version": 3, "digest": gen.DIGEST},
            "lastFailure": {
                "reason": "CrashLoop",
                "message": "the model server ended with exit code 1: boom",
                "pod": "digits-1",
                "exitCode": 1,
                "time": gen.stamp(30),
            },
            "conditions": [
                condition("Ready", *told),
                condition("Available", *told),
                condition("Scheduled", "True", "Done", "1 of 1 pods"),
                condition("ModelFetched", "True", "Done", "1 of 1 pods"),
                condition("ModelLoaded", *told),
                condition("EndpointReady", "False", "Progressing", "0 of 1 pods behind the Service"),
                condition("Reconciling", "True", "CrashLoop", words),
            ],
        }

    def test_placement_counts_the_pods_of_each_node(self) -> None:
        zone = {"topology.kubernetes.io/zone": "eastus-1", "topology.kubernetes.io/region": "eastus"}

        def in_zone(obj: gen.Object) -> None:
            obj["metadata"]["labels"].update(zone)

        status = built(
            observed(
                gen.pod("digits-1", *READY, in_zone),
                gen.pod("digits-2", *READY, in_zone),
                gen.pod("digits-3", gen.placed("cpu-0")),
                gen.pod("digits-4"),
                gen.pod("digits-5", *READY, gen.stopped()),
            )
        )
        assert status["placement"] == [
            {"node": "cpu-0", "replicas": 1},
            {"node": "gpu-0", "zone": "eastus-1", "region": "eastus", "replicas": 2},
        ]

    def test_nothing_yet(self) -> None:
        status = built(observed(services=[], model=gen.model(generation=7)))
        assert status["observedGeneration"] == 7
        assert status["replicasSummary"] == "0/1"
        assert status["model"] == {"name": "digits"}
        assert status["modelSummary"] == "digits"
        assert {one["observedGeneration"] for one in status["conditions"]} == {7}
        assert "lastFailure" not in status

    def test_suspended(self) -> None:
        status = built(observed(), resolved(replicas=3, suspend=True))
        assert status["replicasSummary"] == "0/0"
        assert [one["reason"] for one in status["conditions"]] == ["Suspended", "Suspended"]

    def test_everything_chosen(self) -> None:
        plan = resolved(
            model={"name": "net", "version": 5},
            runtime={"name": "tensorflow-serving"},
            accelerator={"profile": "nvidia-gpu"},
        )
        status = built(observed(), plan, strategy=IN_PLACE)
        assert status["effective"] == {
            "runtime": "tensorflow-serving",
            "image": "tensorflow/serving:2.19.1",
            "strategy": "InPlace",
            "accelerator": "nvidia-gpu",
        }
        assert status["endpoints"] == {
            "grpc": "digits.vision.svc:8500",
            "rest": "http://digits.vision.svc:8501/v1/models/net",
        }
        assert status["model"] == {"name": "net", "version": 5}
        assert status["modelSummary"] == "net/5"

    def test_a_refused_pod_is_nowhere(self) -> None:
        assert "placement" not in built(observed(gen.pod("a", gen.refused())))

    def test_placement_stays_within_what_the_crd_takes(self) -> None:
        pods = [gen.pod(f"p-{number}", gen.placed(f"n-{number:04}")) for number in range(1001)]
        placement = built(observed(*pods))["placement"]
        assert len(placement) == 1000
        assert placement[-1]["node"] == "n-0999"

    @pytest.mark.parametrize(("raw_bytes", "there"), [("", True), ("Enabled", True), ("Disabled", False)])
    def test_scoring(self, raw_bytes: str, there: bool) -> None:
        endpoint = {"rawBytes": raw_bytes} if raw_bytes else {}
        assert ("scoring" in built(observed(), resolved(endpoint=endpoint))["endpoints"]) is there

    @pytest.mark.parametrize(("raw_bytes", "there"), [("Enabled", True), ("Disabled", False)])
    def test_scoring_by_a_front(self, raw_bytes: str, there: bool) -> None:
        endpoint = {"rawBytes": raw_bytes, "maxConcurrentRequests": 1}
        found = resolved(front=True, runtime={"name": "tensorflow-serving"}, endpoint=endpoint)
        assert ("scoring" in built(observed(), found)["endpoints"]) is there


class TestModel:
    def test_a_ready_pod_knows_best(self) -> None:
        pods = [gen.pod("a", gen.fetched(version=2)), gen.pod("b", gen.fetched(version=3), gen.ready())]
        assert built(observed(*pods))["model"]["version"] == 3

    def test_pods_of_older_revisions_do_not_tell(self) -> None:
        status = built(observed(gen.pod("a", gen.fetched(version=2), gen.ready(), revision=OLD)))
        assert status["model"] == {"name": "digits"}

    def test_what_was_known_of_the_revision_is_kept(self) -> None:
        """All pods are gone, or the kubelet lost the message; the files are still those."""
        before = built(observed(gen.pod("a", *READY)))
        after = built(observed(gen.pod("b", gen.starting()), model=gen.model(status=before)))
        assert after["model"] == before["model"]
        assert after["modelSummary"] == "digits/3"

    def test_what_was_known_of_another_revision_is_forgotten(self) -> None:
        before = built(observed(gen.pod("a", *READY)))
        after = built(observed(model=gen.model(status=before)), revision="1111111111")
        assert after["model"] == {"name": "digits"}

    def test_a_status_that_somebody_cut(self) -> None:
        cut = gen.model(status={"revision": gen.REVISION})
        assert built(observed(model=cut))["model"] == {"name": "digits"}

    def test_a_report_without_version_and_digest(self) -> None:
        pod = gen.pod("a", gen.fetched(version=None, digest=None))
        assert built(observed(pod))["model"] == {"name": "digits"}


class TestInvalid:
    BLOCKED = Blocked("InvalidSpec", "words")

    def test_keeps_what_described_the_pods_that_still_run(self) -> None:
        pod = gen.pod("a", *READY)
        before = built(observed(pod))
        invalid = gen.model(status=before, generation=2, replicas=4)
        after = built(observed(pod, model=invalid), blocked=self.BLOCKED)
        kept = ("revision", "endpoints", "model", "modelSummary", "effective", "selector")
        assert {field: after[field] for field in kept} == {field: before[field] for field in kept}
        assert after["observedGeneration"] == 2
        assert (after["replicas"], after["readyReplicas"], after["updatedReplicas"]) == (1, 1, 0)
        assert after["replicasSummary"] == "1/4"
        assert [(one["type"], one["status"]) for one in after["conditions"]] == [
            ("Ready", "False"),
            ("Available", "True"),
            ("Stalled", "True"),
        ]

    def test_without_replicas_one_is_wanted(self) -> None:
        model = gen.model()
        del model["spec"]["replicas"]
        assert built(observed(model=model), blocked=self.BLOCKED)["replicasSummary"] == "0/1"

    def test_from_the_start_there_is_nothing_to_keep(self) -> None:
        after = built(observed(services=[]), blocked=self.BLOCKED)
        assert set(after) == {
            "observedGeneration",
            "replicas",
            "readyReplicas",
            "updatedReplicas",
            "replicasSummary",
            "selector",
            "conditions",
        }


class TestLastFailure:
    def test_stays_when_it_has_healed(self) -> None:
        before = built(observed(gen.pod("a", gen.server_crashed(1, "boom"))))
        after = built(
            observed(gen.pod("a", gen.ready(last=gen.ended(1, "boom"))), model=gen.model(status=before))
        )
        assert after["lastFailure"] == before["lastFailure"]

    def test_is_replaced_by_a_newer_one(self) -> None:
        before = built(observed(gen.pod("a", gen.server_crashed(1, "boom"))))
        after = built(observed(gen.pod("b", gen.server_crashed(2, "bang")), model=gen.model(status=before)))
        assert (after["lastFailure"]["pod"], after["lastFailure"]["exitCode"]) == ("b", 2)

    def test_without_an_exit_code(self) -> None:
        failure = built(observed(gen.pod("a", gen.refused())))["lastFailure"]
        assert failure["reason"] == "DeviceAllocationFailed"
        assert "exitCode" not in failure

    def test_a_state_without_a_time_does_not_replace_it(self) -> None:
        before = built(observed(gen.pod("a", gen.server_crashed(1, "boom"))))
        after = built(observed(gen.pod("b", gen.unschedulable("x")), model=gen.model(status=before)))
        assert after["lastFailure"] == before["lastFailure"]


def faults(schema: dict[str, Any], value: Any, path: str = "status") -> list[str]:
    """Where a value leaves the CRD's schema: the API server would drop a field or refuse the whole."""
    kind = {"object": dict, "array": list, "string": str, "integer": int}[schema["type"]]
    if not isinstance(value, kind) or isinstance(value, bool):
        return [f"{path}: {value!r} is no {schema['type']}"]
    if isinstance(value, dict):
        known = schema["properties"]
        odd = [f"{path}.{name}: unknown" for name in value if name not in known]
        odd += [f"{path}.{name}: missing" for name in schema.get("required", ()) if name not in value]
        inner = [(known[name], child, f"{path}.{name}") for name, child in value.items() if name in known]
        return odd + [one for entry in inner for one in faults(*entry)]
    if isinstance(value, list):
        long = [f"{path}: too long"] if len(value) > schema["maxItems"] else []
        return long + [one for child in value for one in faults(schema["items"], child, f"{path}[]")]
    fits = (
        len(value) <= schema.get("maxLength", 8)
        and re.search(schema.get("pattern", ""), value) is not None
        and value in schema.get("enum", [value])
        if isinstance(value, str)
        else schema["minimum"] <= value <= schema["maximum"]
    )
    return [] if fits else [f"{path}: {value!r} is out of bounds"]


class TestSchema:
    """What the operator stores is what the CRD takes; a dropped field would be written again and again."""

    SCHEMA = yaml.safe_load(CRD_FILE.read_text(encoding="utf-8"))["spec"]["versions"][0]["schema"]

    @pytest.mark.parametrize("option", [row.options for row in ROWS], ids=[row.name for row in ROWS])
    @pytest.mark.parametrize("blocked", [None, TestInvalid.BLOCKED], ids=["valid", "invalid"])
    def test_every_status_fits(self, option: tuple[gen.Option, ...], blocked: Blocked | None) -> None:
        pods = [gen.pod("digits-1", *option), gen.pod("digits-2", *READY)]
        status = built(observed(*pods), resolved(replicas=3), blocked=blocked)
        assert faults(self.SCHEMA["openAPIV3Schema"]["properties"]["status"], status) == []

    def test_the_check_can_fail(self) -> None:
        schema = self.SCHEMA["openAPIV3Schema"]["properties"]["status"]
        wrong = {**WHOLE, "extra": 1, "replicas": -1, "revision": 5, "conditions": [{"type": "ready"}]}
        assert len(faults(schema, wrong)) == 8


class TestStability:
    """What is built upon its own result is the same: there is no second write."""

    @pytest.mark.parametrize(
        "pods",
        [
            [],
            [gen.pod("a", gen.unschedulable("x"))],
            [gen.pod("a", *READY), gen.pod("b", gen.server_crashed(1, "boom"))],
            [gen.pod("a", gen.refused()), gen.pod("b", gen.placed())],
            [gen.pod("a", *READY)],
        ],
        ids=["none", "unschedulable", "crash", "refused", "serving"],
    )
    @pytest.mark.parametrize("blocked", [None, TestInvalid.BLOCKED], ids=["valid", "invalid"])
    def test_second_look(self, pods: list[gen.Object], blocked: Blocked | None) -> None:
        once = built(observed(*pods, now=60), blocked=blocked)
        twice = built(observed(*pods, model=gen.model(status=once), now=75), blocked=blocked)
        assert twice == once

    def test_the_time_of_a_flip_is_that_of_the_flip(self) -> None:
        before = built(observed(gen.pod("a", gen.loading()), now=60))
        after = built(observed(gen.pod("a", *READY), model=gen.model(status=before), now=75))
        times = {one["type"]: one["lastTransitionTime"] for one in after["conditions"]}
        assert times["Ready"] == gen.stamp(75)
        assert times["Scheduled"] == gen.stamp(60)
