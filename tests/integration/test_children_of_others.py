"""Children that other writers change too: a rollout that a user pauses, a writer that fights over a field."""

from __future__ import annotations

from typing import Any

import pytest

from support import kubelet as states
from support.cluster import Cluster, condition
from support.kubelet import Kubelet
from support.models import model_deployment
from support.wait import until

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("operator")]

FIGHTS = 12


def serving(cluster: Cluster, kubelet: Kubelet, namespace: str, name: str) -> None:
    """A ModelDeployment that serves."""
    cluster.create(model_deployment(name, namespace))
    (pod,) = until("its pod", lambda: [one for one in kubelet.pods(name) if one["spec"].get("nodeName")])
    kubelet.write(pod, states.ready())
    cluster.until_condition(namespace, name, "Ready", "True", "Serving")


def test_a_paused_rollout_is_named_and_not_taken_back(
    cluster: Cluster, namespace: str, kubelet: Kubelet
) -> None:
    serving(cluster, kubelet, namespace, "paused")
    cluster.patch("Deployment", namespace, "paused", {"spec": {"paused": True}})
    cluster.patch("ModelDeployment", namespace, "paused", {"spec": {"rollout": {"trigger": "again"}}})
    told = cluster.until_condition(namespace, "paused", "Ready", "False", "RolloutPaused")
    words = f"kubectl -n {namespace} rollout resume deployment/paused"
    assert words in condition(told, "Ready")["message"]
    assert cluster.get("Deployment", namespace, "paused")["spec"]["paused"] is True
    cluster.patch("Deployment", namespace, "paused", {"spec": {"paused": None}})
    cluster.until_condition(namespace, "paused", "Ready", "False", "Progressing")


def test_a_writer_that_fights_is_named(cluster: Cluster, namespace: str, kubelet: Kubelet) -> None:
    """Each time that the operator has put the number back, the other writer sets it again."""
    serving(cluster, kubelet, namespace, "contested")

    def number(obj: Any) -> bool:
        return obj["spec"]["replicas"] == 1

    for _ in range(FIGHTS):
        cluster.patch("Deployment", namespace, "contested", {"spec": {"replicas": 2}}, subresource="scale")
        try:
            cluster.until("put back", "Deployment", namespace, "contested", number, limit=5)
        except AssertionError:
            break
    else:
        pytest.fail("the operator fights without a pause")
    told = cluster.until_condition(namespace, "contested", "Ready", "False", "ResourceContested")
    live = cluster.get("Deployment", namespace, "contested")
    (writer,) = {
        one["manager"] for one in live["metadata"]["managedFields"] if one.get("subresource") == "scale"
    }
    assert condition(told, "Ready")["message"] == (
        f"Deployment/contested: `{writer}` changes spec.replicas again and again; the operator puts it back "
        "after pauses"
    )
    cluster.until("put back at last", "Deployment", namespace, "contested", number, limit=40)
