"""Faults that last, on a real control plane: they silence nothing else, and the status names them."""

from __future__ import annotations

from collections.abc import Callable
from subprocess import CompletedProcess
from typing import Any

import pytest

from support import kubelet as states
from support import whole
from support.cluster import Cluster, Object, condition
from support.kubelet import Kubelet
from support.ledger import LastingFault, lasts
from support.models import model_deployment
from support.wait import until
from support.webhooks import webhook_down

pytestmark = pytest.mark.usefixtures("operator")

Kubectl = Callable[..., CompletedProcess[str]]
Sampled = Callable[[int, int, str], None]
FEW_EDITS, EDITS = 2, 40
HEALED_WITHIN = 90.0
"""Seconds: the longest back-off of the queue, and what a reconcile takes."""


def serving(cluster: Cluster, namespace: str, kubelet: Kubelet, name: str) -> Object:
    """A ModelDeployment that serves."""
    cluster.create(model_deployment(name, namespace))
    (pod,) = until(
        "a pod on a node", lambda: [one for one in kubelet.pods(name) if one["spec"].get("nodeName")]
    )
    kubelet.write(pod, states.ready())
    return cluster.until_condition(namespace, name, "Ready", "True")


def test_a_pod_that_its_node_stopped_is_replaced_and_forgotten(
    cluster: Cluster, namespace: str, kubelet: Kubelet
) -> None:
    """A node that shuts down leaves such pods, and so does a kubelet that outlives a restore of etcd."""
    first = serving(cluster, namespace, kubelet, "stopped")["status"]["replicas"]
    (old,) = kubelet.pods("stopped")
    kubelet.write(old, states.stopped())
    new = until(
        "its successor on a node",
        lambda: next(
            (
                pod
                for pod in kubelet.pods("stopped")
                if pod["spec"].get("nodeName") and pod["metadata"]["uid"] != old["metadata"]["uid"]
            ),
            None,
        ),
    )
    kubelet.write(new, states.ready())
    found = cluster.until_condition(namespace, "stopped", "Ready", "True", reason="Serving")
    assert found["status"]["replicas"] == first
    assert cluster.get("Pod", namespace, old["metadata"]["name"]), "the test is about a pod that stays"


def refused(cluster: Cluster, namespace: str) -> set[str]:
    """Names of the objects of which an event says that a child is refused."""
    told = cluster.list("Event", namespace, fields="reason=ChildRefused,type=Warning")
    return {one["involvedObject"]["name"] for one in told}


def edit(cluster: Cluster, namespace: str, name: str, **spec: Any) -> int:
    """Change the spec; the new generation."""
    edited = cluster.patch("ModelDeployment", namespace, name, {"spec": spec})
    return int(edited["metadata"]["generation"])


@lasts("a webhook for Deployments is down, while the spec is edited again and again")
def test_a_webhook_that_is_down_is_told_at_once_and_forgotten_when_it_heals(
    cluster: Cluster, namespace: str, kubelet: Kubelet, sampled: Sampled
) -> None:
    serving(cluster, namespace, kubelet, "edited")
    with webhook_down(cluster, namespace, "apps", "deployments"):
        fault = LastingFault()
        cluster.create(model_deployment("new", namespace))
        generation = edit(cluster, namespace, "edited", replicas=3)
        for name in ("new", "edited"):
            found = cluster.until_condition(namespace, name, "Ready", "False", reason="ChildRefused")
            fault.told_by(found)
            assert "failed calling webhook" in condition(found, "Ready")["message"]
            assert condition(found, "Reconciling")["status"] == "True"
        assert found["status"]["observedGeneration"] == generation
        assert condition(found, "Available")["status"] == "True"
        # Events follow the status.
        until("both events", lambda: refused(cluster, namespace) == {"new", "edited"})
        # More edits while it lasts: the status follows each of them.
        rounds = whole.amount(FEW_EDITS, EDITS)
        sampled(rounds, EDITS, "edits, one every few seconds")
        for number in range(rounds):
            generation = edit(cluster, namespace, "edited", replicas=2 + number % 3)
            cluster.until(
                "the edit to be judged",
                "ModelDeployment",
                namespace,
                "edited",
                lambda one, generation=generation: one["status"]["observedGeneration"] == generation,
            )
    fault.end()
    cluster.until(
        "the scaled Deployment",
        "Deployment",
        namespace,
        "edited",
        lambda one: one["spec"]["replicas"] == 2 + (rounds - 1) % 3,
        limit=HEALED_WITHIN,
    )
    until("the new Deployment", lambda: cluster.get("Deployment", namespace, "new"), limit=HEALED_WITHIN)
    fault.overcome()
    cluster.until_condition(namespace, "new", "Ready", "False", reason="Progressing")


@pytest.mark.parametrize("stop", [{"suspend": True}, {"replicas": 0}])
def test_a_stop_is_obeyed_whatever_else_fails(
    cluster: Cluster, namespace: str, kubelet: Kubelet, stop: dict[str, Any]
) -> None:
    serving(cluster, namespace, kubelet, "stopped")
    with webhook_down(cluster, namespace, "", "services"):
        cluster.delete("Service", namespace, "stopped")
        found = cluster.until_condition(namespace, "stopped", "Ready", "False", reason="ChildRefused")
        assert condition(found, "Ready")["message"].startswith("Service/stopped: ")
        edit(cluster, namespace, "stopped", **stop)
        cluster.until(
            "no replicas", "Deployment", namespace, "stopped", lambda one: one["spec"]["replicas"] == 0
        )
    until("the Service again", lambda: cluster.get("Service", namespace, "stopped"), limit=HEALED_WITHIN)
