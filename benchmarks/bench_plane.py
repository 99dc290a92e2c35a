"""A control plane with our CRD, a node and the operator on it: what the operator's benchmarks stand on."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from serval_lab import Lab
from support.chart import operator_kubeconfig
from support.cluster import Cluster
from support.kubelet import Kubelet
from support.operator import OperatorProcess
from support.plane import control_plane, prepare

NAMESPACE = "bench"
OPERATOR_USER = "system:serviceaccount:serval-system:"


@dataclass(frozen=True)
class Bench:
    """What a benchmark works with."""

    plane: Lab
    cluster: Cluster
    kubelet: Kubelet
    operator: OperatorProcess

    def audit(self, offset: int = 0) -> list[dict[str, Any]]:
        """Events of the API server's audit log from an offset on."""
        with Path(self.plane.audit_log).open("rb") as stream:
            stream.seek(offset)
            return [json.loads(line) for line in stream.read().splitlines() if line.endswith(b"}")]

    def audit_size(self) -> int:
        """Length of the audit log now."""
        return Path(self.plane.audit_log).stat().st_size


@contextmanager
def bench(**environment: str) -> Iterator[Bench]:
    """Start everything; end everything.

    Parameters
    ----------
    environment:
        Settings of the operator.
    """
    with control_plane("serval-bench") as plane, tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(plane.kubeconfig)
        prepare(plane, cluster)
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        identity = operator_kubeconfig(plane, Path(folder))
        operator = OperatorProcess(identity, Path(folder) / "operator", **environment).start()
        try:
            yield Bench(plane, cluster, Kubelet(cluster, NAMESPACE), operator)
        finally:
            operator.kill()
            cluster.close()


def moment(event: dict[str, Any]) -> datetime:
    """When the API server had answered a request, to the microsecond."""
    return datetime.fromisoformat(event["stageTimestamp"])


def is_status_write(event: dict[str, Any]) -> bool:
    """Whether an audit event is the operator's write of a ModelDeployment's status."""
    ref = event.get("objectRef", {})
    return (
        event["user"]["username"].startswith(OPERATOR_USER)
        and ref.get("resource") == "modeldeployments"
        and ref.get("subresource") == "status"
        and event["verb"] == "patch"
    )
