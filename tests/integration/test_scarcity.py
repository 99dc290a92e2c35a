"""Scarce devices on the real scheduler: who holds them, what could offer them, and what heals."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from support import kubelet as states
from support.cluster import Cluster, Object, condition
from support.kubelet import Kubelet, node
from support.ledger import LastingFault, lasts
from support.models import model_deployment
from support.operator import OperatorProcess
from support.wait import until

pytestmark = pytest.mark.usefixtures("operator")

RESOURCE = "example.com/board"
BOARD = {"resourceName": RESOURCE, "count": 1}
Nodes = Callable[..., str]
Kubectl = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def nodes(cluster: Cluster) -> Iterator[Nodes]:
    """Makes nodes with boards; they go with the test."""
    made: list[str] = []

    def make(name: str, boards: int, *, broken: bool = False, **metadata: Any) -> str:
        manifest = node(name, example_com__board=boards)
        manifest["metadata"] |= {"labels": metadata.get("labels", {})}
        if broken:
            manifest["status"]["allocatable"] = {**manifest["status"]["allocatable"], RESOURCE: "0"}
        made.append(name)
        cluster.create({**manifest, "status": {}})
        cluster.patch("Node", None, name, {"status": manifest["status"]}, "status")
        cluster.patch("Node", None, name, {"spec": {"taints": metadata.get("taints")}})
        return name

    yield make
    for name in made:
        cluster.delete("Node", None, name)


def wants(name: str, namespace: str, *, count: int = 1, **spec: Any) -> Object:
    """A ModelDeployment that asks for boards."""
    accelerator = {**BOARD, "count": count, **spec.pop("accelerator", {})}
    return model_deployment(name, namespace, accelerator=accelerator, **spec)


def serve(kubelet: Kubelet, name: str, count: int = 1) -> None:
    """Wait until so many pods have a node, and let them answer."""

    def look() -> list[Object] | None:
        pods = [pod for pod in kubelet.pods(name) if pod["spec"].get("nodeName")]
        return pods if len(pods) == count else None

    for pod in until(f"{count} pods of {name} on a node", look):
        kubelet.write(pod, states.ready())


class TestVerdicts:
    def test_a_busy_device_names_its_holder_and_heals(
        self, cluster: Cluster, namespace: str, kubelet: Kubelet, nodes: Nodes
    ) -> None:
        nodes("board-a", 1)
        cluster.create(wants("first", namespace))
        serve(kubelet, "first")
        cluster.until_condition(namespace, "first", "AcceleratorAvailable", "True")
        cluster.create(wants("second", namespace))
        cr = cluster.until_condition(namespace, "second", "Ready", "False", "AcceleratorBusy")
        assert f"{namespace}/first" in condition(cr, "Ready")["message"]
        assert "board-a" in condition(cr, "Ready")["message"]
        waits = cr["status"]["accelerator"]
        assert waits["resourceName"] == RESOURCE
        assert waits["free"] == 0
        holder = {"kind": "ModelDeployment", "namespace": namespace, "name": "first"}
        assert waits["holders"] == [{**holder, "node": "board-a", "count": 1}]
        cluster.patch("ModelDeployment", namespace, "first", {"spec": {"replicas": 0}})
        (pod,) = until("the first pod stops", lambda: cluster.list("Pod", namespace, "serval.dev/name=first"))
        until("stopping", lambda: not kubelet.pods("first"))
        kubelet.remove(pod)
        serve(kubelet, "second")
        cr = cluster.until_condition(namespace, "second", "Ready", "True", "Serving")
        assert "accelerator" not in cr["status"]

    def test_no_node_offers_it_so_no_pod_is_made_until_one_does(
        self, cluster: Cluster, namespace: str, kubelet: Kubelet, nodes: Nodes
    ) -> None:
        cluster.create(wants("early", namespace))
        cr = cluster.until_condition(namespace, "early", "Ready", "False", "NoNodeOffersResource")
        assert condition(cr, "AcceleratorAvailable")["reason"] == "NoNodeOffersResource"
        assert not condition(cr, "Stalled")
        assert not cluster.list("Pod", namespace)
        nodes("board-late", 1)
        serve(kubelet, "early")
        cluster.until_condition(namespace, "early", "Ready", "True", "Serving")

    def test_wait_makes_the_pod_so_that_an_autoscaler_sees_it(
        self, cluster: Cluster, namespace: str, kubelet: Kubelet
    ) -> None:
        cluster.create(wants("patient", namespace, accelerator={"whenUnavailable": "Wait"}))
        until("the pod", lambda: kubelet.pods("patient"))
        cluster.until_condition(namespace, "patient", "Ready", "False", "NoNodeOffersResource")
        assert len(kubelet.pods("patient")) == 1

    def test_more_than_any_node_has(self, cluster: Cluster, namespace: str, nodes: Nodes) -> None:
        nodes("board-small", 2)
        cluster.create(wants("greedy", namespace, count=4))
        cr = cluster.until_condition(namespace, "greedy", "Ready", "False", "RequestExceedsNode")
        assert "board-small" in condition(cr, "Ready")["message"]
        assert not cluster.list("Pod", namespace)

    def test_a_selector_that_excludes_the_node_is_named(
        self, cluster: Cluster, namespace: str, nodes: Nodes
    ) -> None:
        nodes("board-plain", 1, labels={"model": "u200"})
        cluster.create(wants("picky", namespace, scheduling={"nodeSelector": {"model": "u250"}}))
        cr = cluster.until_condition(namespace, "picky", "Ready", "False", "SelectorMismatch")
        assert "u250" in condition(cr, "Ready")["message"]

    def test_a_taint_that_is_not_tolerated_is_named(
        self, cluster: Cluster, namespace: str, nodes: Nodes
    ) -> None:
        nodes("board-tainted", 1, taints=[{"key": "team", "value": "vision", "effect": "NoSchedule"}])
        cluster.create(wants("uninvited", namespace))
        cr = cluster.until_condition(namespace, "uninvited", "Ready", "False", "UntoleratedTaint")
        assert "team=vision" in condition(cr, "Ready")["message"]

    def test_a_device_whose_plugin_is_gone_is_not_ready_and_the_pod_waits(
        self, cluster: Cluster, namespace: str, kubelet: Kubelet, nodes: Nodes
    ) -> None:
        name = nodes("board-broken", 1, broken=True)
        cluster.create(wants("hopeful", namespace))
        cluster.until_condition(namespace, "hopeful", "Ready", "False", "DeviceNotReady")
        cluster.patch("Node", None, name, {"status": {"allocatable": {RESOURCE: "1"}}}, "status")
        serve(kubelet, "hopeful")
        cluster.until_condition(namespace, "hopeful", "Ready", "True", "Serving")

    def test_a_verdict_never_takes_running_pods_away(
        self, cluster: Cluster, namespace: str, kubelet: Kubelet, nodes: Nodes
    ) -> None:
        name = nodes("board-restarts", 1)
        cluster.create(wants("running", namespace))
        serve(kubelet, "running")
        cluster.until_condition(namespace, "running", "Ready", "True", "Serving")
        cluster.patch("Node", None, name, {"status": {"allocatable": {RESOURCE: "0"}}}, "status")
        cluster.patch("ModelDeployment", namespace, "running", {"spec": {"replicas": 2}})
        cluster.until_condition(namespace, "running", "Ready", "False", "DeviceNotReady")
        until("both pods", lambda: len(kubelet.pods("running")) == 2)


class TestRollouts:
    def rolling(self, cluster: Cluster, namespace: str, name: str) -> tuple[int, int]:
        """Surge and unavailable numbers of the Deployment."""
        found = cluster.get("Deployment", namespace, name)
        assert found is not None
        numbers = found["spec"]["strategy"]["rollingUpdate"]
        return numbers["maxSurge"], numbers["maxUnavailable"]

    def change(self, cluster: Cluster, namespace: str, name: str) -> None:
        probes = {"probes": {"readiness": {"periodSeconds": 42}}}
        cluster.patch("ModelDeployment", namespace, name, {"spec": probes})
        cluster.until(
            "the new template",
            "Deployment",
            namespace,
            name,
            lambda one: (
                one["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]["periodSeconds"] == 42
            ),
        )

    def test_without_a_free_device_it_goes_in_place(
        self, cluster: Cluster, namespace: str, kubelet: Kubelet, nodes: Nodes
    ) -> None:
        nodes("board-one", 1)
        cluster.create(wants("single", namespace))
        serve(kubelet, "single")
        cluster.until_condition(namespace, "single", "Ready", "True")
        self.change(cluster, namespace, "single")
        assert self.rolling(cluster, namespace, "single") == (0, 1)
        cr = cluster.get("ModelDeployment", namespace, "single")
        assert cr is not None
        assert cr["status"]["effective"]["strategy"] == "InPlace"

    def test_with_a_free_device_it_surges_and_the_old_one_serves_on(
        self, cluster: Cluster, namespace: str, kubelet: Kubelet, nodes: Nodes
    ) -> None:
        nodes("board-two", 2)
        cluster.create(wants("double", namespace))
        serve(kubelet, "double")
        cluster.until_condition(namespace, "double", "Ready", "True")
        self.change(cluster, namespace, "double")
        assert self.rolling(cluster, namespace, "double") == (1, 0)
        until("the new pod beside the old one", lambda: len(kubelet.pods("double")) == 2)
        new = next(pod for pod in kubelet.pods("double") if pod["status"].get("phase") == "Pending")
        kubelet.write(new, states.fetch_failed("ModelInvalid", "no saved_model.pb"))
        cr = cluster.until_condition(namespace, "double", "Ready", "False", "ModelInvalid")
        assert condition(cr, "Available")["status"] == "True"
        assert self.rolling(cluster, namespace, "double") == (1, 0), "a bad model took the old one down"

    def test_a_surge_that_lost_its_device_turns_to_in_place(
        self, cluster: Cluster, namespace: str, kubelet: Kubelet, nodes: Nodes
    ) -> None:
        nodes("board-gone", 1)
        cluster.create(wants("forced", namespace, rollout={"strategy": "Surge"}))
        serve(kubelet, "forced")
        cluster.until_condition(namespace, "forced", "Ready", "True")
        self.change(cluster, namespace, "forced")
        assert self.rolling(cluster, namespace, "forced") == (1, 0)
        cr = cluster.until_condition(namespace, "forced", "Ready", "False", "AcceleratorBusy")
        assert condition(cr, "Available")["status"] == "True"
        cluster.patch("ModelDeployment", namespace, "forced", {"spec": {"rollout": {"strategy": "Auto"}}})
        cluster.until(
            "in place",
            "Deployment",
            namespace,
            "forced",
            lambda one: one["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1},
        )

    def test_a_failed_revision_is_reverted_where_asked(
        self, cluster: Cluster, namespace: str, kubelet: Kubelet
    ) -> None:
        cluster.create(model_deployment("careful", namespace, rollout={"onFailure": "Revert"}))
        serve(kubelet, "careful")
        served = cluster.until_condition(namespace, "careful", "Ready", "True")["status"]["servingRevision"]
        self.change(cluster, namespace, "careful")
        until("the new pod beside the old one", lambda: len(kubelet.pods("careful")) == 2)
        new = next(pod for pod in kubelet.pods("careful") if pod["status"].get("phase") == "Pending")
        kubelet.write(new, states.fetch_failed("ModelInvalid", "no saved_model.pb"))
        cluster.until(
            "the revision that served",
            "Deployment",
            namespace,
            "careful",
            lambda one: one["spec"]["template"]["metadata"]["labels"]["serval.dev/revision"] == served,
        )
        cr = cluster.until_condition(namespace, "careful", "Ready", "False", "ModelInvalid")
        assert "no saved_model.pb" in condition(cr, "Ready")["message"]
        assert condition(cr, "Available")["status"] == "True"
        cluster.patch("ModelDeployment", namespace, "careful", {"spec": {"probes": None}})
        cluster.until_condition(namespace, "careful", "Ready", "True", "Serving")


class TestLostNode:
    @lasts("a node is lost for good, and the pod on it stays in Terminating until it is removed by force")
    def test_what_hangs_on_a_lost_node_is_named_as_what_holds_the_device(
        self, cluster: Cluster, namespace: str, kubelet: Kubelet, nodes: Nodes
    ) -> None:
        """A node that is lost for good never reports the end of its pods, which stay in Terminating."""
        nodes("board-lost", 1)
        cluster.create(wants("survivor", namespace))
        serve(kubelet, "survivor")
        cluster.until_condition(namespace, "survivor", "Ready", "True")
        (pod,) = kubelet.pods("survivor")
        # As the cluster does it once the node has been unreachable for a while.
        cluster.delete("Pod", namespace, pod["metadata"]["name"], gracePeriodSeconds=1)
        fault = LastingFault()
        cr = cluster.until_condition(namespace, "survivor", "Ready", "False", "AcceleratorBusy")
        fault.told_by(cr)
        assert f"its pod {pod['metadata']['name']} is Terminating" in condition(cr, "Ready")["message"]
        kubelet.remove(pod)
        fault.end()
        serve(kubelet, "survivor")
        cluster.until_condition(namespace, "survivor", "Ready", "True", "Serving")
        fault.overcome()


class TestDrains:
    @lasts("the only node with the device is drained and stays cordoned")
    def test_a_drain_of_the_only_node_for_two_replicas_ends(
        self, cluster: Cluster, namespace: str, kubelet: Kubelet, nodes: Nodes, kubectl: Kubectl
    ) -> None:
        """The first pod's successor finds no node, so the budget has to let the second pod go too."""
        node = nodes("board-drained", 2)
        cluster.create(wants("drained", namespace, replicas=2))
        serve(kubelet, "drained", 2)
        cluster.until_condition(namespace, "drained", "Ready", "True")
        ready = {pod["metadata"]["uid"] for pod in kubelet.pods("drained")}

        def evicted() -> bool:
            for pod in cluster.list("Pod", namespace, "serval.dev/name=drained"):
                if pod["metadata"].get("deletionTimestamp"):
                    kubelet.remove(pod)
            cr = cluster.get("ModelDeployment", namespace, "drained")
            if cr and condition(cr, "Ready")["reason"] == "DeviceNotReady":
                fault.told_by(cr)
            return drain.done()

        fault = LastingFault()
        with ThreadPoolExecutor(max_workers=1) as pool:
            drain = pool.submit(kubectl, "drain", node, "--delete-emptydir-data", "--timeout=90s")
            until("the end of the drain", evicted, limit=100)
        assert drain.result().returncode == 0, drain.result().stderr
        assert not ready & {pod["metadata"]["uid"] for pod in kubelet.pods("drained")}
        cr = cluster.until_condition(namespace, "drained", "Ready", "False", "DeviceNotReady")
        assert f"{node} is cordoned" in condition(cr, "Ready")["message"]
        kubectl("uncordon", node)
        fault.end()
        serve(kubelet, "drained", 2)
        cluster.until_condition(namespace, "drained", "Ready", "True", "Serving")
        fault.overcome()
        cluster.until(
            "the budget as the spec says",
            "PodDisruptionBudget",
            namespace,
            "drained",
            lambda one: one["spec"]["maxUnavailable"] == 1,
        )


class TestRefusedAllocations:
    def test_a_storm_of_dead_pods_is_damped_and_heals(
        self, cluster: Cluster, namespace: str, kubelet: Kubelet, nodes: Nodes
    ) -> None:
        nodes("board-refuses", 4)
        cluster.create(wants("stormy", namespace, replicas=2))
        most, refused = [0], set()

        def damped() -> bool:
            for pod in kubelet.pods("stormy"):
                if pod["spec"].get("nodeName") and pod["status"].get("phase") == "Pending":
                    kubelet.write(pod, states.refused())
                    refused.add(pod["metadata"]["uid"])
            dead = [pod for pod in kubelet.pods("stormy") if pod["status"].get("phase") == "Failed"]
            most[0] = max(most[0], len(dead))
            found = cluster.get("Deployment", namespace, "stormy")
            stopped = found is not None and found["spec"]["replicas"] == 0
            # Of the dead, those that tell nothing more are cleared away at once.
            return stopped and not _pending(kubelet, "stormy") and len(refused) >= 3

        until("no more pods", damped, limit=30, every=0.02)
        cr = cluster.until_condition(namespace, "stormy", "Ready", "False", "DeviceAllocationFailed")
        assert "no healthy devices" in condition(cr, "Ready")["message"]
        assert most[0] <= 5 + 2, "the storm went on"
        until("one more try", lambda: _pending(kubelet, "stormy"), limit=60)
        serve_pending = until("the try on a node", lambda: _pending(kubelet, "stormy", placed=True))
        kubelet.write(serve_pending[0], states.ready())
        second = until("the second", lambda: _pending(kubelet, "stormy", placed=True), limit=30)
        kubelet.write(second[0], states.ready())
        cluster.until_condition(namespace, "stormy", "Ready", "True", "Serving")
        until(
            "the dead pods cleared away",
            lambda: all(pod["status"].get("phase") == "Running" for pod in kubelet.pods("stormy")),
        )


def _pending(kubelet: Kubelet, name: str, *, placed: bool = False) -> list[Object]:
    return [
        pod
        for pod in kubelet.pods(name)
        if pod["status"].get("phase") == "Pending" and (pod["spec"].get("nodeName") or not placed)
    ]


def test_the_operator_under_test_logs_no_traceback(operator: OperatorProcess) -> None:
    assert "Traceback" not in operator.log.read_text()
