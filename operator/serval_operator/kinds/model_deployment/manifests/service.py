"""The two Services of a ModelDeployment."""

from __future__ import annotations

from typing import Any

from serval_contract.ports import PORT_GRPC, PORT_HTTP, PORT_SCORING
from serval_operator.api.naming import Manifest, headless_name, selector
from serval_operator.api.snapshots import OwnerView
from serval_operator.kinds.model_deployment.manifests.metadata import child


def service(model: OwnerView) -> Manifest:
    """ClusterIP Service: gRPC, HTTP, and port 80 for plain scoring URIs."""
    ports = [*_model_ports(), _port("scoring", PORT_SCORING, "http", None)]
    return child(model, model.name, "v1", "Service", {"type": "ClusterIP", **_spec(model, ports)})


def headless_service(model: OwnerView) -> Manifest:
    """Headless Service: its name resolves to every ready pod, so that gRPC clients can spread over them.

    One gRPC connection through a ClusterIP stays with one pod for ever.
    """
    spec = {"clusterIP": "None", **_spec(model, _model_ports())}
    return child(model, headless_name(model.name), "v1", "Service", spec)


def _spec(model: OwnerView, ports: list[dict[str, Any]]) -> dict[str, Any]:
    return {"selector": selector(model.key), "ports": ports}


def _model_ports() -> list[dict[str, Any]]:
    return [_port("grpc", PORT_GRPC, "grpc", "kubernetes.io/h2c"), _port("http", PORT_HTTP, "http", None)]


def _port(name: str, port: int, target: str, app_protocol: str | None) -> dict[str, Any]:
    entry = {"name": name, "port": port, "targetPort": target, "protocol": "TCP"}
    return {**entry, "appProtocol": app_protocol} if app_protocol else entry
