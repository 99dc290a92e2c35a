"""The two Services of what serves a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from serval_contract.ports import PORT_GRPC, PORT_HTTP, PORT_SCORING
from serval_operator.api.naming import Manifest, headless_name, selector
from serval_operator.api.snapshots import OwnerView
from serval_operator.workload.manifests.metadata import child

GRPC: Final = "grpc"
HTTP: Final = "http"
"""Names of the ports of the pods."""
SCORING: Final = (("scoring", PORT_SCORING, HTTP),)
"""Port 80, for plain scoring URIs."""


def service(model: OwnerView, more: Sequence[tuple[str, int, str]] = SCORING) -> Manifest:
    """ClusterIP Service: gRPC and HTTP.

    Parameters
    ----------
    more:
        More ports: name, number, and the port of the pods to which it leads, `GRPC` or `HTTP`.
    """
    ports = [*_model_ports(), *(_port(*one) for one in more)]
    return child(model, model.name, "v1", "Service", {"type": "ClusterIP", **_spec(model, ports)})


def headless_service(model: OwnerView) -> Manifest:
    """Headless Service: its name resolves to every ready pod, so that gRPC clients can spread over them.

    One gRPC connection through a ClusterIP stays with one pod forever.
    """
    spec = {"clusterIP": "None", **_spec(model, _model_ports())}
    return child(model, headless_name(model.name), "v1", "Service", spec)


def _spec(model: OwnerView, ports: list[dict[str, Any]]) -> dict[str, Any]:
    return {"selector": selector(model.key), "ports": ports}


def _model_ports() -> list[dict[str, Any]]:
    return [_port(GRPC, PORT_GRPC, GRPC), _port(HTTP, PORT_HTTP, HTTP)]


def _port(name: str, port: int, target: str) -> dict[str, Any]:
    entry = {"name": name, "port": port, "targetPort": target, "protocol": "TCP"}
    return {**entry, "appProtocol": "kubernetes.io/h2c"} if target == GRPC else entry
