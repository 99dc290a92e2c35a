"""A control plane made ready for the operator: our CRDs, and one node that takes pods."""

from __future__ import annotations

from pathlib import Path
from subprocess import CompletedProcess

import pytest

from serval_lab import Lab
from support.cluster import Cluster
from support.kubelet import node
from support.wait import until

CRDS = Path(__file__).resolve().parents[2] / "crds"
CRD = CRDS / "serval.dev_modeldeployments.yaml"


def prepare(plane: Lab, cluster: Cluster) -> None:
    """Install the CRDs and a node without a kubelet, on which tests write the pods' states."""
    plane.kubectl("apply", "--server-side", "-f", str(CRDS))
    for kind in ("mdep", "amodel"):
        until(kind, lambda kind=kind: plane.kubectl("get", kind, "-A", check=False).returncode == 0)
    made = node(nvidia_com__gpu=100, emulated_serval_dev__u250=2)
    name = made["metadata"]["name"]
    cluster.create({**made, "status": {}})
    cluster.patch("Node", None, name, {"status": made["status"]}, "status")
    # Registration taints a node until its status says that it is ready; nobody else removes that here.
    cluster.patch("Node", None, name, {"spec": {"taints": None}})


def unused(lab: Lab) -> Lab:
    """A lab that nobody has brought up: one that is up belongs to another run, or to one that was killed."""
    if lab.status().phase == "up":
        down = f"python -m serval_lab down --name {lab.name}"
        pytest.exit(f"lab {lab.name} is up: another test run uses it; if that one is dead, run: {down}", 3)
    return lab


def control_plane(name: str, **options: bool) -> Lab:
    """A control plane without nodes, on loopback, whose scheduler works for nodes that tests write."""
    # Nobody renews the lease of such a node, so it must never be missed.
    return Lab(name=name, nodes=(), fast=True, node_grace=86400.0, **options)


def kubectl(plane: Lab, *arguments: str, stdin: str | None = None) -> CompletedProcess[str]:
    """Run the real kubectl, and give its answer whether it succeeds or not."""
    return plane.kubectl(*arguments, stdin=stdin, check=False)
