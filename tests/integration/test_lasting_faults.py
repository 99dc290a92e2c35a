"""Faults that last, on a real control plane: they silence nothing else, and the status names them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from subprocess import CompletedProcess
from typing import Any

import pytest

from support import kubelet as states
from support.cluster import Cluster, Object, condition
from support.kubelet import Kubelet
from support.models import model_deployment
from support.wait import until

pytestmark = pytest.mark.usefixtures("operator")

Kubectl = Callable[..., CompletedProcess[str]]
Down = Callable[[str, str], AbstractContextManager[None]]
HEALED_WITHIN = 90.0
"""Seconds: the longest back-off of the queue, and what a reconcile takes."""


@pytest.fixture
def webhook_down(cluster: Cluster, namespace: str) -> Down:
    """Lets a webhook of the test's namespace fail for a resource, as one whose pods are gone."""

    @contextmanager
    def down(group: str, resource: str) -> Iterator[None]:
        name = f"{namespace}-{resource}.example.com"
        operations = ["CREATE", "UPDATE"]
        rule = {"apiGroups": [group], "apiVersions": ["*"], "operations": operations, "resources": [resource]}
        kind = "ValidatingWebhookConfiguration"
        cluster.create(
            {
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": kind,
                "metadata": {"name": name},
                "webhooks": [
                    {
                        "name": name,
                        "clientConfig": {"url": "https://127.0.0.1:1/"},
                        "rules": [rule],
                        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                        "sideEffects": "None",
                        "admissionReviewVersions": ["v1"],
                        "timeoutSeconds": 1,
                    }
                ],
            }
        )
        try:
            probe = _probe(group, resource, namespace)
            until("the webhook to fail", lambda: _refused(cluster, probe))
            yield
        finally:
            cluster.delete(kind, None, name)

    return down


def _probe(group: str, resource: str, namespace: str) -> Object:
    meta = {"name": "probe", "namespace": namespace}
    if resource == "services":
        return {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": [{"port": 1}]}}
    labels = {"app": "probe"}
    containers = [{"name": "probe", "image": "registry.example/probe:1"}]
    return {
        "apiVersion": f"{group}/v1",
        "kind": "Deployment",
        "metadata": meta,
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
        },
    }


def _refused(cluster: Cluster, probe: Object) -> bool:
    try:
        cluster.create(probe)
    except AssertionError as error:
        return "failed calling webhook" in str(error)
    cluster.delete(probe["kind"], probe["metadata"]["namespace"], probe["metadata"]["name"])
    return False


def serving(cluster: Cluster, namespace: str, kubelet: Kubelet, name: str) -> Object:
    """A ModelDeployment that serves."""
    cluster.create(model_deployment(name, namespace))
    (pod,) = until(
        "a pod on a node", lambda: [one for one in kubelet.pods(name) if one["spec"].get("nodeName")]
    )
    kubelet.write(pod, states.ready())
    return cluster.until_condition(namespace, name, "Ready", "True")


def edit(cluster: Cluster, namespace: str, name: str, **spec: Any) -> int:
    """Change the spec; the new generation."""
    edited = cluster.patch("ModelDeployment", namespace, name, {"spec": spec})
    return int(edited["metadata"]["generation"])


def test_a_webhook_that_is_down_is_told_at_once_and_forgotten_when_it_heals(
    cluster: Cluster, namespace: str, kubelet: Kubelet, webhook_down: Down
) -> None:
    serving(cluster, namespace, kubelet, "edited")
    with webhook_down("apps", "deployments"):
        cluster.create(model_deployment("new", namespace))
        generation = edit(cluster, namespace, "edited", replicas=3)
        for name in ("new", "edited"):
            found = cluster.until_condition(namespace, name, "Ready", "False", reason="ChildRefused")
            assert "failed calling webhook" in condition(found, "Ready")["message"]
            assert condition(found, "Reconciling")["status"] == "True"
        assert found["status"]["observedGeneration"] == generation
        assert condition(found, "Available")["status"] == "True"
        told = cluster.list("Event", namespace, fields="reason=ChildRefused,type=Warning")
        assert {one["involvedObject"]["name"] for one in told} == {"new", "edited"}
        # More edits while it lasts: the status follows each of them.
        for replicas in (2, 4):
            generation = edit(cluster, namespace, "edited", replicas=replicas)
            cluster.until(
                "the edit to be judged",
                "ModelDeployment",
                namespace,
                "edited",
                lambda one, generation=generation: one["status"]["observedGeneration"] == generation,
            )
    cluster.until(
        "the scaled Deployment",
        "Deployment",
        namespace,
        "edited",
        lambda one: one["spec"]["replicas"] == 4,
        limit=HEALED_WITHIN,
    )
    until("the new Deployment", lambda: cluster.get("Deployment", namespace, "new"), limit=HEALED_WITHIN)
    cluster.until_condition(namespace, "new", "Ready", "False", reason="Progressing")


@pytest.mark.parametrize("stop", [{"suspend": True}, {"replicas": 0}])
def test_a_stop_is_obeyed_whatever_else_fails(
    cluster: Cluster, namespace: str, kubelet: Kubelet, webhook_down: Down, stop: dict[str, Any]
) -> None:
    serving(cluster, namespace, kubelet, "stopped")
    with webhook_down("", "services"):
        cluster.delete("Service", namespace, "stopped")
        found = cluster.until_condition(namespace, "stopped", "Ready", "False", reason="ChildRefused")
        assert condition(found, "Ready")["message"].startswith("Service/stopped: ")
        edit(cluster, namespace, "stopped", **stop)
        cluster.until(
            "no replicas", "Deployment", namespace, "stopped", lambda one: one["spec"]["replicas"] == 0
        )
    until("the Service again", lambda: cluster.get("Service", namespace, "stopped"), limit=HEALED_WITHIN)
