"""What autoscalers say, in their words and objects. Those are written here: none runs without a cloud."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from support.cluster import Cluster, Object, condition
from support.kubelet import Kubelet
from support.models import model_deployment
from support.operator import OperatorProcess
from support.wait import until

STATUS = ("kube-system", "cluster-autoscaler-status")
GROUPS = "nodeGroups: [{name: aks-fpga-0, health: {nodeCounts: {registered: {total: 0}}, maxSize: 2}}]"


def tell(cluster: Cluster, pod: Object, reason: str, message: str) -> None:
    """Post an event about a pod as the cluster autoscaler does, and let the operator look again."""
    meta = pod["metadata"]
    about = {"kind": "Pod", "apiVersion": "v1"}
    about |= {field: meta[field] for field in ("name", "namespace", "uid")}
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    cluster.create(
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": "autoscaler-", "namespace": meta["namespace"]},
            "involvedObject": about,
            "type": "Normal",
            "reason": reason,
            "message": message,
            "source": {"component": "cluster-autoscaler"},
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
        }
    )
    nudge = {"metadata": {"annotations": {"nudged": reason}}}
    cluster.patch("ModelDeployment", meta["namespace"], meta["labels"]["serval.dev/name"], nudge)


def waiting(kubelet: Kubelet, name: str) -> Object:
    """The pod that waits."""
    (pod,) = until("the pod", lambda: kubelet.pods(name))
    return pod


def test_a_scalable_profile_waits_and_repeats_the_autoscaler(
    cluster: Cluster, namespace: str, kubelet: Kubelet, operator: OperatorProcess
) -> None:
    assert operator.running()
    cluster.create(model_deployment("elastic", namespace, accelerator={"profile": "spot", "count": 1}))
    cr = cluster.until_condition(namespace, "elastic", "Ready", "False", "ScaleUpPending")
    assert "profile" in condition(cr, "Ready")["message"]
    pod = waiting(kubelet, "elastic")
    tell(cluster, pod, "NotTriggerScaleUp", "pod didn't trigger scale-up: 1 max node group size reached")
    cr = cluster.until_condition(namespace, "elastic", "Ready", "False", "ScaleUpBlocked")
    assert "max node group size reached" in condition(cr, "Ready")["message"]
    assert not condition(cr, "Stalled")
    pod = waiting(kubelet, "elastic")
    cluster.delete("Pod", namespace, pod["metadata"]["name"], gracePeriodSeconds=0)
    pod = until("another pod", lambda: [one for one in kubelet.pods("elastic") if _is_new(one, pod)])[0]
    tell(cluster, pod, "TriggeredScaleUp", "pod triggered scale-up: [{spot 0->1 (max: 3)}]")
    cluster.until(
        "the autoscaler's order",
        "ModelDeployment",
        namespace,
        "elastic",
        lambda one: "spot 0->1" in condition(one, "Ready")["message"],
    )
    cluster.until_condition(namespace, "elastic", "Ready", "False", "ScaleUpPending")


def _is_new(pod: Object, old: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return pod["metadata"]["uid"] != old["metadata"]["uid"] and bool(conditions)


def test_refuse_makes_no_pod_even_where_nodes_may_come(
    cluster: Cluster, namespace: str, operator: OperatorProcess
) -> None:
    assert operator.running()
    accelerator = {"profile": "spot", "count": 1, "whenUnavailable": "Refuse"}
    cluster.create(model_deployment("strict", namespace, accelerator=accelerator))
    cluster.until_condition(namespace, "strict", "Ready", "False", "ScaleUpPending")
    deployment = cluster.until("the Deployment", "Deployment", namespace, "strict", bool)
    assert deployment["spec"]["replicas"] == 0
    assert not cluster.list("Pod", namespace)


@pytest.fixture
def empty_group(cluster: Cluster) -> Iterator[None]:
    """A cluster autoscaler with a node group that has no node."""
    place, name = STATUS
    meta = {"name": name, "namespace": place}
    cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"status": GROUPS}})
    yield
    cluster.delete("ConfigMap", place, name)


@pytest.mark.usefixtures("empty_group")
def test_an_empty_node_group_may_bring_the_device_so_the_pod_is_made(
    cluster: Cluster, namespace: str, kubelet: Kubelet, operator: OperatorProcess
) -> None:
    assert operator.running()
    accelerator = {"resourceName": "example.com/rare", "count": 1}
    cluster.create(model_deployment("lucky", namespace, accelerator=accelerator))
    # What autoscalers publish is read every 10 seconds, and looked at again after 30.
    until("the pod", lambda: kubelet.pods("lucky"), limit=60)
    cr = cluster.until_condition(namespace, "lucky", "Ready", "False", "ScaleUpPending")
    assert "aks-fpga-0" in condition(cr, "Ready")["message"]
