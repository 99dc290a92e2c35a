"""One queue for devices on the real scheduler: two kinds and a stranger, order, priority, hand-over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest

from serval_contract.stage_report import StageReport
from support.cluster import Cluster, Object, condition
from support.kubelet import Kubelet, node, now
from support.models import model_deployment
from support.operator import OperatorProcess
from support.wait import until

DEVICE = "example.com/board"
NODES = count(1)
SOON = 2.0
"""Seconds within which the next one starts once a pod of ours has let a device go."""


@pytest.fixture(scope="module")
def turns(toy_identity: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    """An operator of two kinds that ask for devices; it must not have logged a traceback."""
    folder = tmp_path_factory.mktemp("turns")
    process = OperatorProcess(toy_identity, folder, module="support.toy_operator").start()
    yield process
    process.kill()
    log = process.log.read_text()
    assert "Traceback" not in log, log[-4000:]
    assert "forbidden: User" not in log, log[-3000:]


@pytest.fixture
def devices(cluster: Cluster) -> Iterator[Callable[[int], str]]:
    """Makes a node with so many devices; it goes with the test."""
    made: list[str] = []

    def make(units: int) -> str:
        manifest = node(f"turn-{next(NODES)}", example_com__board=units)
        name = manifest["metadata"]["name"]
        made.append(name)
        cluster.create({**manifest, "status": {}})
        cluster.patch("Node", None, name, {"status": manifest["status"]}, "status")
        cluster.patch("Node", None, name, {"spec": {"taints": None}})
        return name

    yield make
    for name in made:
        cluster.delete("Node", None, name)


class Hall:
    """A namespace whose objects wait for devices.

    Parameters
    ----------
    operator:
        Who decides.
    """

    def __init__(self, cluster: Cluster, namespace: str, kubelet: Kubelet, operator: OperatorProcess) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.kubelet = kubelet
        self.operator = operator

    def model(self, name: str, *, busy: str = "", **spec: Any) -> None:
        """Create a ModelDeployment that asks for a device."""
        accelerator = {"resourceName": DEVICE, **({"whenBusy": busy} if busy else {})}
        self.cluster.create(model_deployment(name, self.namespace, accelerator=accelerator, **spec))

    def toy(self, name: str) -> None:
        """Create a Toy of which one pod asks for a device, and let its Job end."""
        spec = {"model": {"uri": "pvc://models/digits"}, "steps": 1, "watchers": 1}
        self.cluster.create(
            {
                "apiVersion": "serval.dev/v1alpha1",
                "kind": "Toy",
                "metadata": {"name": name, "namespace": self.namespace},
                "spec": {**spec, "accelerator": {"resourceName": DEVICE}},
            }
        )
        (pod,) = until(f"the Job of {name}", lambda: self._placed(f"serval.dev/owner-name={name}"))
        ended = {"exitCode": 0, "reason": "Completed", "startedAt": now(), "finishedAt": now()}
        line = StageReport("play", result={"score": 1}).dump()
        status = {
            "phase": "Succeeded",
            "initContainerStatuses": [_container("shuffle", {**ended, "message": ""})],
            "containerStatuses": [_container("play", {**ended, "message": line})],
        }
        self.cluster.patch("Pod", self.namespace, pod["metadata"]["name"], {"status": status}, "status")

    def stranger(self, on: str) -> Object:
        """A pod of somebody else that holds a device."""
        container = {"name": "main", "image": "x", "resources": {"limits": {DEVICE: "1"}}}
        return self.cluster.create(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "stranger", "namespace": self.namespace},
                "spec": {"nodeName": on, "containers": [container]},
            }
        )

    def pods(self, name: str) -> list[Object]:
        """Pods of an object that ask for a device, those that are being stopped included."""
        return self.cluster.list("Pod", self.namespace, f"serval.dev/name={name}")

    def holders(self) -> list[str]:
        """Names of the objects that have a pod with a node."""
        pods = self.cluster.list("Pod", self.namespace, "serval.dev/name")
        return sorted(
            pod["metadata"]["labels"]["serval.dev/name"] for pod in pods if pod["spec"].get("nodeName")
        )

    def until_holds(self, name: str, *, limit: float = 30.0) -> Object:
        """Wait until a pod of an object has a node."""
        (pod,) = until(f"a device for {name}", lambda: self._placed(f"serval.dev/name={name}"), limit)
        return pod

    def until_waits(self, name: str, position: int, kind: str = "ModelDeployment") -> Object:
        """Wait until an object says its place in the queue, and has no pod."""

        def holds(cr: Object) -> bool:
            waits = cr.get("status", {}).get("accelerator", {})
            return waits.get("position") == position and not self.pods(name)

        # A change of the place alone is told after a while.
        return self.cluster.until(f"position {position}", kind, self.namespace, name, holds, limit=75)

    def until_ready(self, name: str, status: str, reason: str) -> Object:
        """Wait for a reason of Ready."""
        return self.cluster.until_condition(self.namespace, name, "Ready", status, reason)

    def stop(self, name: str) -> None:
        """Be the kubelet that has stopped the pods of an object which are being deleted."""

        def stopping() -> list[Object]:
            return [pod for pod in self.pods(name) if pod["metadata"].get("deletionTimestamp")]

        # The garbage collector looks for kinds that are new every 30 seconds.
        for pod in until(f"the end of {name}", stopping, limit=90):
            self.kubelet.remove(pod)

    def delete(self, kind: str, name: str) -> None:
        """Delete an object, and let its pods stop."""
        self.cluster.delete(kind, self.namespace, name)
        self.stop(name)

    def edit(self, name: str, **spec: Any) -> None:
        """Change the spec of a ModelDeployment."""
        self.cluster.patch("ModelDeployment", self.namespace, name, {"spec": spec})

    def status(self, name: str) -> Object:
        """Status of a ModelDeployment."""
        found = self.cluster.get("ModelDeployment", self.namespace, name)
        assert found is not None
        return dict(found["status"])

    def _placed(self, selector: str) -> list[Object]:
        pods = self.cluster.list("Pod", self.namespace, selector)
        return [pod for pod in pods if pod["spec"].get("nodeName")]


@pytest.fixture
def hall(cluster: Cluster, namespace: str, kubelet: Kubelet, turns: OperatorProcess) -> Iterator[Hall]:
    """A namespace whose objects wait for devices. They are gone before the next test begins."""
    yield Hall(cluster, namespace, kubelet, turns)
    for kind in ("ModelDeployment", "Toy"):
        for one in cluster.list(kind, namespace):
            cluster.delete(kind, namespace, one["metadata"]["name"])

    def empty() -> bool:
        pods = cluster.list("Pod", namespace)
        for pod in pods:
            kubelet.remove(pod)
        return not pods and not cluster.list("Deployment", namespace)

    until("the end of all pods", empty)


def _container(name: str, ended: Object) -> Object:
    state = {"terminated": ended}
    return {"name": name, "state": state, "ready": False, "restartCount": 0, "image": "x", "imageID": ""}


def test_ten_of_two_kinds_and_a_stranger_on_two_devices(
    hall: Hall, devices: Callable[[int], str], cluster: Cluster, namespace: str
) -> None:
    """Each starts in its turn, soon after the one before let go, whichever kind it is."""
    on = devices(2)
    hall.stranger(on)
    kinds = {f"c{index}": "Toy" if index % 2 else "ModelDeployment" for index in range(10)}
    for name, kind in kinds.items():
        (hall.toy if kind == "Toy" else hall.model)(name)
    hall.until_holds("c0")
    cr = hall.until_waits("c9", 9, "Toy")
    holders = cr["status"]["accelerator"]["holders"]
    assert [(one["kind"], one["name"], one["node"]) for one in holders] == [
        ("ModelDeployment", "c0", on),
        ("Pod", "stranger", on),
    ]
    assert f"position 9 of 9 in the queue; no node has 1 {DEVICE} free" in condition(cr, "Ready")["message"]
    names = list(kinds)
    for before, after in pairwise(names):
        hall.delete(kinds[before], before)
        hall.until_holds(after, limit=SOON)
        assert hall.holders() == [after]


def test_priority_comes_first_and_what_waits_survives_a_restart(
    hall: Hall, devices: Callable[[int], str], cluster: Cluster
) -> None:
    devices(1)
    urgent = {"kind": "PriorityClass", "apiVersion": "scheduling.k8s.io/v1", "value": 1000}
    cluster.create({**urgent, "metadata": {"name": "urgent"}})
    try:
        hall.model("a-holds")
        hall.until_holds("a-holds")
        hall.model("b-waits")
        hall.until_waits("b-waits", 1)
        hall.model("c-urgent", scheduling={"priorityClassName": "urgent"})
        hall.until_waits("c-urgent", 1)
        hall.operator.kill()
        hall.delete("ModelDeployment", "a-holds")
        hall.operator.start()
        hall.until_holds("c-urgent")
        hall.until_waits("b-waits", 1)
    finally:
        cluster.delete("PriorityClass", None, "urgent")


def test_who_is_refused_by_a_quota_blocks_nobody(
    hall: Hall, devices: Callable[[int], str], cluster: Cluster, namespace: str
) -> None:
    devices(1)
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none", "namespace": namespace},
    }
    scopes = {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["poor"]}]}
    cluster.create({**quota, "spec": {"hard": {"pods": "0"}, "scopeSelector": scopes}})
    until(
        "the quota",
        lambda: (cluster.get("ResourceQuota", namespace, "none") or {}).get("status", {}).get("hard"),
    )
    poor = {"kind": "PriorityClass", "apiVersion": "scheduling.k8s.io/v1", "value": 5}
    cluster.create({**poor, "metadata": {"name": "poor"}})
    try:
        hall.model("a-holds")
        hall.until_holds("a-holds")
        hall.model("b-refused", scheduling={"priorityClassName": "poor"})
        hall.until_waits("b-refused", 1)
        hall.model("c-next")
        hall.until_waits("c-next", 2)
        hall.delete("ModelDeployment", "a-holds")
        hall.until_ready("b-refused", "False", "QuotaExceeded")
        hall.until_holds("c-next")
        hall.until_ready("b-refused", "False", "QuotaExceeded")
    finally:
        cluster.delete("PriorityClass", None, "poor")


def test_a_device_of_one_that_starts_is_not_given_twice(hall: Hall, devices: Callable[[int], str]) -> None:
    """Nobody schedules the first pod, so its device stays free, and it stays its own."""
    devices(1)
    hall.model("a-starts", scheduling={"schedulerName": "nobody"})
    until("its pod", lambda: hall.pods("a-starts"))
    hall.model("b-waits")
    cr = hall.until_waits("b-waits", 1)
    assert condition(cr, "Ready")["reason"] == "WaitingForTurn"
    assert "free devices are for pods that start" in condition(cr, "Ready")["message"]
    hall.cluster.delete("ModelDeployment", hall.namespace, "a-starts")
    hall.until_holds("b-waits")


class TestReplace:
    def test_it_takes_the_place_of_the_newest_once_for_each_change(
        self, hall: Hall, devices: Callable[[int], str]
    ) -> None:
        """The operator is killed in between, and neither of the two takes the other's place back."""
        devices(2)
        hall.model("a-old")
        hall.until_holds("a-old")
        hall.model("b-new", busy="Replace")
        hall.until_holds("b-new")
        hall.model("c-waits")
        hall.until_waits("c-waits", 1)
        hall.model("d-takes", busy="Replace")
        hall.cluster.until(
            "the record",
            "ModelDeployment",
            hall.namespace,
            "d-takes",
            lambda cr: cr.get("status", {}).get("replacement", {}).get("name") == "b-new",
        )
        hall.operator.kill()
        hall.operator.start(wait=False)
        cr = hall.until_ready("b-new", "False", "Replaced")
        assert (
            f"ModelDeployment {hall.namespace}/d-takes took its devices" in condition(cr, "Ready")["message"]
        )
        assert condition(cr, "Stalled")["status"] == "True"
        hall.stop("b-new")
        hall.until_holds("d-takes")
        hall.until_waits("c-waits", 1)
        assert hall.holders() == ["a-old", "d-takes"]
        hall.edit("b-new", rollout={"trigger": "again"})
        hall.until_ready("d-takes", "False", "Replaced")
        hall.stop("d-takes")
        hall.until_holds("b-new")
        hall.until_waits("c-waits", 1)
        assert hall.status("d-takes")["replacedBy"] == {
            "generation": 1,
            "kind": "ModelDeployment",
            "name": "b-new",
        }
        assert hall.holders() == ["a-old", "b-new"]

    def test_one_that_was_replaced_waits_again_when_the_other_is_gone(
        self, hall: Hall, devices: Callable[[int], str]
    ) -> None:
        devices(1)
        hall.model("a-old")
        hall.until_holds("a-old")
        hall.model("b-takes", busy="Replace")
        hall.until_ready("a-old", "False", "Replaced")
        hall.stop("a-old")
        hall.until_holds("b-takes")
        hall.delete("ModelDeployment", "b-takes")
        hall.until_holds("a-old")

    def test_a_stranger_is_left_alone(self, hall: Hall, devices: Callable[[int], str]) -> None:
        hall.stranger(devices(1))
        hall.model("a-takes", busy="Replace")
        cr = hall.until_waits("a-takes", 1)
        assert condition(cr, "Ready")["reason"] == "AcceleratorBusy"
        assert "replacement" not in cr["status"]
