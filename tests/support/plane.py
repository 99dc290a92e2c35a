"""A control plane made ready for the operator: our CRD, and one node that takes pods."""

from __future__ import annotations

from pathlib import Path

from support.chart import Plane
from support.cluster import Cluster
from support.kubelet import node

CRD = Path(__file__).resolve().parents[2] / "crds" / "serval.dev_modeldeployments.yaml"


def prepare(plane: Plane, cluster: Cluster) -> None:
    """Install the CRD and a node without a kubelet, on which tests write the pods' states."""
    for args in (
        ("apply", "--server-side", "-f", str(CRD)),
        ("wait", "--for=condition=Established", "--timeout=30s", "crd/modeldeployments.serval.dev"),
    ):
        done = plane.kubectl(*args)
        assert done.returncode == 0, done.stderr
    made = node(nvidia_com__gpu=100)
    name = made["metadata"]["name"]
    cluster.create({**made, "status": {}})
    cluster.patch("Node", None, name, {"status": made["status"]}, "status")
    # Registration taints a node until its status says that it is ready; nobody else removes that here.
    cluster.patch("Node", None, name, {"spec": {"taints": None}})
