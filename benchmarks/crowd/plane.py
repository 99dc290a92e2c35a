"""A large cluster on a real API server: copies of a few objects, written into etcd."""

from __future__ import annotations

import re
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.operator.copies import UID
from serval_lab import Lab
from serval_lab.control_plane import etcd_url
from serval_lab.etcd import Etcd
from support.chart import operator_kubeconfig
from support.cluster import Cluster, condition
from support.kubelet import node
from support.models import model_deployment
from support.operator import OperatorProcess
from support.wait import until

NAMESPACE = "crowd"
OTHERS = "others"
BOARD = "example.com/board"
UNRELATED = "vpc.amazonaws.com/pod-eni"
"""What EKS puts on each node."""
START_LIMIT = 300.0
BATCH = 2000
"""Objects that are written between two lines of progress."""


@dataclass(frozen=True)
class Size:
    """How many there are of each.

    Attributes
    ----------
    nodes:
        Nodes that offer a resource for which nothing waits.
    device_nodes:
        Nodes that offer a device beside it, which a pod holds.
    pods:
        Pods of others.
    waiting:
        ModelDeployments whose pod waits for a device.
    """

    nodes: int
    device_nodes: int
    pods: int
    waiting: int


@dataclass
class Plane:
    """The cluster, and an operator of some source tree."""

    lab: Lab
    cluster: Cluster
    folder: Path
    identity: Path
    tree: Path
    operator: OperatorProcess
    _runs: int = 0

    def start_operator(self) -> None:
        """Start an operator in place of the last one."""
        self._runs += 1
        self.operator = self._process(f"operator-{self._runs}")
        self.operator.start(limit=START_LIMIT)

    def reasons(self) -> Counter[str]:
        """How many ModelDeployments give each reason for not being Ready."""
        found = self.cluster.list("ModelDeployment", NAMESPACE)
        return Counter(str(condition(one, "Ready").get("reason")) for one in found)

    def pids(self) -> dict[str, int]:
        """Process ids of the operator and of the control plane's parts."""
        parts = {name: self.lab.context.process(name) for name in ("kube-apiserver", "etcd")}
        return {"operator": self.operator.pid, **{name: one.pid for name, one in parts.items() if one}}

    def _process(self, name: str) -> OperatorProcess:
        return operator_process(self.identity, self.folder / name, self.tree)


def operator_process(identity: Path, folder: Path, tree: Path) -> OperatorProcess:
    """An operator of a source tree; not started."""
    sources = ":".join(str(tree / source) for source in ("contract", "operator", "serving"))
    limit = f"{START_LIMIT:.0f}"
    return OperatorProcess(identity, folder, PYTHONPATH=sources, SERVAL_START_SECONDS=limit)


@contextmanager
def plane(tree: Path, size: Size) -> Iterator[Plane]:
    """Set everything up; end everything. The operator does not run yet.

    There are neither controllers nor a scheduler, so nothing but the operator asks and writes.
    """
    lab = Lab("serval-bench-crowd", (), fast=True, controllers=False, scheduler=False)
    with lab, tempfile.TemporaryDirectory() as scratch:
        folder, cluster = Path(scratch), Cluster(lab.kubeconfig)
        crd = tree / "crds" / "serval.dev_modeldeployments.yaml"
        lab.kubectl("apply", "--server-side", "-f", str(crd))
        until("the new kind", lambda: lab.kubectl("get", "mdep", "-A", check=False).returncode == 0)
        for namespace in (NAMESPACE, OTHERS):
            cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        identity = operator_kubeconfig(lab, folder)
        made = Plane(lab, cluster, folder, identity, tree, operator_process(identity, folder / "first", tree))
        try:
            _originals(made)
            _fill(made, size)
            yield made
        finally:
            made.operator.kill()
            cluster.close()


def _originals(made: Plane) -> None:
    """Make one of each by the API server; the operator makes the children."""
    cluster = made.cluster
    _node(cluster, "node-00000", vpc_amazonaws_com__pod_eni=38)
    _node(cluster, "card-00000", vpc_amazonaws_com__pod_eni=38, example_com__board=1)
    _pod(cluster, "pods-000000", "node-00000", UNRELATED)
    _pod(cluster, "held-000000", "card-00000", BOARD)
    accelerator = {"resourceName": BOARD, "count": 1}
    # By default, the name of the model is that of the object, and copies would be of another revision.
    model = {"uri": "https://models.example.com/digits.tar.gz", "name": "digits"}
    cluster.create(model_deployment("model-000", NAMESPACE, accelerator=accelerator, model=model))
    made.operator.start(limit=START_LIMIT)
    deployment = until("the Deployment", lambda: cluster.get("Deployment", NAMESPACE, "model-000"))
    template = deployment["spec"]["template"]
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "model-000-rs", "controller": True}
    metadata = {
        "name": "model-000-pod",
        "namespace": NAMESPACE,
        "labels": template["metadata"]["labels"],
        "ownerReferences": [{**owner, "uid": str(uuid.uuid4())}],
    }
    cluster.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]})
    message = f"0/5000 nodes are available: 5000 Insufficient {BOARD}."
    scheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    status = {"status": {"phase": "Pending", "conditions": [scheduled]}}
    cluster.patch("Pod", NAMESPACE, "model-000-pod", status, "status")
    until("the verdict", lambda: made.reasons() == {"AcceleratorBusy": 1}, limit=60)
    made.operator.stop()


def _fill(made: Plane, size: Size) -> None:
    """Copy the originals in etcd."""
    store = Etcd(etcd_url(made.lab.context))
    try:
        keys = [key for key in store.keys() if "/events/" not in key]  # noqa: SIM118
        numbers = range(1, size.device_nodes)
        _copy(store, keys, ["card-00000"], ([f"card-{number:05}"] for number in numbers))
        both = ["held-000000", "card-00000"]
        _copy(store, keys, both, ([f"held-{number:06}", f"card-{number:05}"] for number in numbers))
        _copy(store, keys, ["node-00000"], ([f"node-{number:05}"] for number in range(1, size.nodes)))
        names = ([f"model-{number:03}"] for number in range(1, size.waiting))
        _copy(store, keys, ["model-000"], names)
        both = ["pods-000000", "node-00000"]
        pods = range(1, size.pods)
        _copy(store, keys, both, ([f"pods-{one:06}", f"node-{one % size.nodes:05}"] for one in pods))
    finally:
        store.close()
    for path in ("/api/v1/nodes", "/api/v1/pods", "/apis/apps/v1/deployments"):
        listing = ("get", "--raw", f"{path}?limit=1")
        until(
            f"the API server to have seen all of {path}",
            lambda listing=listing: made.lab.kubectl(*listing, check=False).returncode == 0,
            limit=START_LIMIT,
        )


def _copy(store: Etcd, keys: Sequence[str], old: Sequence[str], names: Iterator[list[str]]) -> None:
    """Copy what is stored under the first of the old names, once for each group of names of equal length.

    Most objects are stored in a form that counts bytes.
    """
    originals = {
        key: store.values(key)[key] for key in keys if re.search(rf"/{re.escape(old[0])}(-[^/]*)?$", key)
    }
    uids = {uid for value in originals.values() for uid in UID.findall(value)}
    batch: dict[str, bytes] = {}
    for new in names:
        pairs = [(one.encode(), other.encode()) for one, other in zip(old, new, strict=True)]
        pairs += [(uid, str(uuid.uuid4()).encode()) for uid in uids]
        for key, value in originals.items():
            copied = value
            for one, other in pairs:
                copied = copied.replace(one, other)
            batch[key.replace(old[0], new[0])] = copied
        if len(batch) >= BATCH:
            store.put(batch)
            batch = {}
    store.put(batch)


def _node(cluster: Cluster, name: str, **extended: int) -> None:
    made = node(name, **extended)
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/os": "linux",
        "node.kubernetes.io/instance-type": "m5.8xlarge",
        "topology.kubernetes.io/region": "eu-central-1",
        "topology.kubernetes.io/zone": "eu-central-1a",
        "eks.amazonaws.com/nodegroup": "general",
    }
    made["metadata"]["labels"] = labels
    cluster.create({**made, "status": {}})
    cluster.patch("Node", None, name, {"status": made["status"]}, "status")
    cluster.patch("Node", None, name, {"spec": {"taints": None}})


def _pod(cluster: Cluster, name: str, on: str, resource: str) -> None:
    container: dict[str, Any] = {"name": "main", "image": "registry.example/app:1"}
    container["resources"] = {"limits": {resource: "1"}}
    metadata = {"name": name, "namespace": OTHERS, "labels": {"app": "app"}}
    spec = {"nodeName": on, "containers": [container], "terminationGracePeriodSeconds": 0}
    cluster.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    cluster.patch("Pod", OTHERS, name, {"status": {"phase": "Running"}}, "status")
