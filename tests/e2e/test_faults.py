"""What happens to clusters: nodes, networks, registries and control planes that go and come back.

Each time the ModelDeployment says what is wrong while it is, and heals without help.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from examples.demo.model import TrainedModel

from e2e.stand import OPERATOR_NODE, PULLS_ALWAYS, Stand
from e2e.traffic import steady_load
from serval_lab import Lab
from serval_serving.client import HttpClient
from support.chart import CHART, NAMESPACE, RELEASE
from support.cluster import Object, condition
from support.ledger import provokes
from support.wait import until

# Several models are loaded one after another, each of which takes half a minute on a busy machine.
pytestmark = pytest.mark.timeout(600)

GPU = {"profile": "nvidia-gpu"}
NODE = "cpu-0"
LEASE_SECONDS = 6
"""Of the two operators; longer than a renewal may take on a busy machine."""
SMALL = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "2Gi"}}


def changed(number: int) -> dict[str, Any]:
    """Fields that make a new revision."""
    return {"podMetadata": {"annotations": {"example.com/change": str(number)}}}


def nodes_of(stand: Stand, name: str) -> list[str]:
    """Nodes of the pods of a ModelDeployment."""
    return sorted(pod["spec"].get("nodeName", "") for pod in stand.pods(name))


@contextmanager
def cordoned(lab: Lab, node: str) -> Iterator[None]:
    """For a while no pod is scheduled to a node."""
    lab.kubectl("cordon", node)
    try:
        yield
    finally:
        lab.kubectl("uncordon", node)


def drain(lab: Lab, node: str, name: str) -> None:
    """Drain a node of the pods of one ModelDeployment; fails where that takes longer than two minutes."""
    lab.kubectl(
        "drain", node, f"--pod-selector=serval.dev/name={name}", "--delete-emptydir-data", "--timeout=120s",
        limit=130,
    )  # fmt: skip


class TestNodes:
    def test_one_of_two_replicas_dies_with_its_node(self, stand: Stand, cluster_lab: Lab) -> None:
        stand.create("pair", replicas=2, resources=SMALL, scheduling={"topologySpread": "Required"})
        stand.serving("pair")
        victim = next(name for name in nodes_of(stand, "pair") if name != OPERATOR_NODE)
        node = cluster_lab.node(victim)
        stand.ledger.act()
        node.kill()
        try:
            cr = stand.failing("pair", "NodeNotReady")
            assert condition(cr, "Available")["status"] == "True"
            assert victim in condition(cr, "Ready")["message"]
        finally:
            node.start()
        stand.serving("pair")

    @provokes("NodeNotReady", "the node is cut from the network")
    def test_a_node_cut_from_the_network_goes_on_and_is_found_again(
        self, stand: Stand, cluster_lab: Lab
    ) -> None:
        stand.create("island", resources=SMALL, **stand.on_node(NODE))
        stand.serving("island")
        before = {pod["metadata"]["uid"] for pod in stand.pods("island")}
        node = cluster_lab.node(NODE)
        stand.ledger.act()
        node.cut()
        try:
            cr = stand.failing("island", "NodeNotReady")
            assert condition(cr, "Available")["status"] == "False"
            assert NODE in condition(cr, "Ready")["message"]
        finally:
            node.mend()
        stand.serving("island")
        assert {pod["metadata"]["uid"] for pod in stand.pods("island")} == before

    @provokes("Unschedulable", "no node takes the pod")
    def test_the_only_replica_does_not_hold_up_a_drain(self, stand: Stand, cluster_lab: Lab) -> None:
        stand.create("single", resources=SMALL, **stand.on_node(NODE))
        stand.serving("single")
        stand.ledger.act()
        with cordoned(cluster_lab, NODE):
            drain(cluster_lab, NODE, "single")
            cr = stand.failing("single", "Unschedulable")
            assert "unschedulable" in condition(cr, "Ready")["message"]
        stand.serving("single")

    def test_a_drain_takes_one_of_two_replicas_at_a_time_and_no_request(
        self, stand: Stand, cluster_lab: Lab, model: TrainedModel
    ) -> None:
        stand.create("wide", replicas=2, resources=SMALL, accelerator={"profile": "cpu"})
        stand.serving("wide")
        victim = nodes_of(stand, "wide")[0]
        with steady_load(stand, "wide", model) as load, cordoned(cluster_lab, victim):
            load.until_answers(10)
            drain(cluster_lab, victim, "wide")
            stand.serving("wide")
            load.until_answers(10)
        assert load.failures == [], load.failures[:3]
        assert victim not in nodes_of(stand, "wide")

    @provokes("DeviceNotReady", "the GPU node is cordoned")
    def test_a_cordoned_node_is_named_while_its_devices_are_out_of_reach(
        self, stand: Stand, cluster_lab: Lab
    ) -> None:
        with cordoned(cluster_lab, "gpu-0"):
            stand.create("fenced", accelerator=GPU, resources=SMALL)
            cr = stand.failing("fenced", "DeviceNotReady")
            assert "gpu-0" in condition(cr, "Ready")["message"]
            assert "cordoned" in condition(cr, "Ready")["message"]
        stand.serving("fenced")


@provokes("ImagePullFailed", "the registry is gone")
def test_registry_that_is_gone_and_back(stand: Stand, cluster_lab: Lab) -> None:
    cluster_lab.registry_server.kill()
    try:
        # On this node only the server's image is asked for: it has those that every pod needs.
        where = stand.on_node(OPERATOR_NODE)
        stand.create("hungry", runtime={"name": PULLS_ALWAYS}, resources=SMALL, **where)
        cr = stand.failing("hungry", "ImagePullFailed")
        assert "connection refused" in condition(cr, "Ready")["message"]
    finally:
        cluster_lab.registry_server.start()
    stand.serving("hungry")


class TestControlPlane:
    def test_api_server_that_is_killed_and_back(
        self, stand: Stand, cluster_lab: Lab, model: TrainedModel
    ) -> None:
        stand.create("steady", resources=SMALL)
        stand.serving("steady")
        service = stand.cluster.get("Service", stand.namespace, "steady")
        assert service is not None
        restarts = operator_restarts(stand)
        cluster_lab.apiserver.kill()
        try:
            with HttpClient(f"http://{service['spec']['clusterIP']}", timeout=20.0) as client:
                assert client.score(model.images[0].data) is not None
        finally:
            cluster_lab.apiserver.start()
        stand.patch("steady", replicas=2)
        stand.serving("steady")
        assert operator_restarts(stand) == restarts

    def test_etcd_that_comes_back_with_an_older_state(self, stand: Stand, cluster_lab: Lab) -> None:
        stand.create("changed", resources=SMALL, **changed(1))
        older = stand.serving("changed")
        stand.create("removed", runtime={"name": "no-image"}, resources=SMALL)
        stand.failing("removed", "ImagePullFailed")
        snapshot = cluster_lab.etcd.snapshot()
        stand.patch("changed", **changed(2), replicas=2)
        stand.serving("changed")
        stand.create("added", runtime={"name": "no-image"}, resources=SMALL)
        stand.failing("added", "ImagePullFailed")
        stand.cluster.delete("ModelDeployment", stand.namespace, "removed")
        stand.cluster.until_gone("Deployment", stand.namespace, "removed")
        cluster_lab.etcd.restore(snapshot)
        assert stand.cluster.get("ModelDeployment", stand.namespace, "added") is None
        stand.failing("removed", "ImagePullFailed")
        stand.serving("changed")
        # Told to change, the operator starts from what is true now, not from what it knew before.
        stand.patch("changed", **changed(3))
        cr = stand.serving("changed")
        assert cr["metadata"]["generation"] == older["metadata"]["generation"] + 1
        deployment = stand.cluster.get("Deployment", stand.namespace, "changed")
        assert deployment is not None
        assert deployment["spec"]["replicas"] == 1
        annotations = deployment["spec"]["template"]["metadata"]["annotations"]
        assert annotations["example.com/change"] == "3"
        assert stand.cluster.get("Deployment", stand.namespace, "added") is None


def operator_pods(stand: Stand) -> list[Object]:
    """Pods of the operator that are not on their way out."""
    found = stand.cluster.list("Pod", NAMESPACE, f"app.kubernetes.io/instance={RELEASE}")
    return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]


def operator_restarts(stand: Stand) -> dict[str, int]:
    """How often each operator was started again."""
    return {
        pod["metadata"]["name"]: pod["status"]["containerStatuses"][0]["restartCount"]
        for pod in operator_pods(stand)
    }


class TestTwoOperators:
    @pytest.fixture(autouse=True)
    def two(self, installed: Lab) -> Iterator[None]:
        """For a while there are two operators, of which one works."""
        upgrade(installed, replicas=2, lease=LEASE_SECONDS)
        yield
        upgrade(installed, replicas=1, lease=15)

    def test_the_other_takes_over_from_one_that_is_killed_and_from_one_that_is_told_to_go(
        self, stand: Stand, installed: Lab
    ) -> None:
        first = holder(installed)
        assert len(operator_pods(stand)) == 2
        kill(first)
        second = until(
            "another holder of the Lease",
            lambda: holder(installed) if holder(installed) != first else None,
            limit=2 * LEASE_SECONDS + 5,
        )
        stand.create("odd", runtime={"name": "unheard-of"})
        stand.failing("odd", "UnknownRuntime", limit=20)
        # One that ends in order gives the Lease back: nobody waits until it runs out.
        installed.kubectl("-n", NAMESPACE, "delete", "pod", second, "--wait=false")
        third = until(
            "a third holder of the Lease",
            lambda: holder(installed) if holder(installed) not in ("", second) else None,
            limit=LEASE_SECONDS,
        )
        assert third != second
        stand.patch("odd", runtime={"name": "no-image"})
        stand.failing("odd", "ImagePullFailed")


def upgrade(lab: Lab, *, replicas: int, lease: int) -> None:
    """Let the chart run so many operators."""
    lab.helm(
        "upgrade", RELEASE, str(CHART), f"--namespace={NAMESPACE}", "--reuse-values", "--wait",
        "--timeout=120s", f"--set=operator.replicas={replicas},operator.leaseSeconds={lease}",
    )  # fmt: skip


def holder(lab: Lab) -> str:
    """Name of the pod that holds the operators' Lease; empty while nobody does."""
    listed = json.loads(lab.kubectl("-n", NAMESPACE, "get", "leases", "-o", "json").stdout)
    identities = [lease["spec"].get("holderIdentity") or "" for lease in listed["items"]]
    return identities[0].partition("_")[0] if identities else ""


def kill(pod: str) -> None:
    """Kill the operator in a pod, as the kernel would for want of memory."""
    host = f"HOSTNAME={pod}".encode()
    found = [
        pid for pid, variables in environments() if host in variables and b"serval_operator" in words(pid)
    ]
    assert found, f"no process of {pod}"
    for pid in found:
        os.kill(pid, signal.SIGKILL)


def environments() -> Iterator[tuple[int, list[bytes]]]:
    """Environment of every process of this machine, those of pods included."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                yield int(entry.name), (entry / "environ").read_bytes().split(b"\0")


def words(pid: int) -> list[bytes]:
    """Command line of a process; empty when it is gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return []
