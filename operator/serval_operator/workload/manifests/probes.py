"""Probes of the containers that serve a model: startup and readiness ask the model, liveness the port."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serval_contract.ports import PORT_GRPC, PORT_HTTP
from serval_operator.api.blocks.endpoint import Probe
from serval_operator.workload.effective_spec import EffectiveSpec
from serval_operator.workload.manifests.containers import PRE_STOP, container_ports

STARTUP = Probe(period_seconds=1, timeout_seconds=2, failure_threshold=1800)
"""Asks every second, so that Ready comes as soon as the model answers, for half an hour."""
READINESS = Probe(period_seconds=5, timeout_seconds=2, failure_threshold=2)
LIVENESS = Probe(period_seconds=10, timeout_seconds=2, failure_threshold=3)


def facing(resolved: EffectiveSpec) -> dict[str, Any]:
    """What a container has that clients reach: the pod's ports, all probes, and time to leave the Service."""
    return {
        "ports": container_ports(grpc=PORT_GRPC, http=PORT_HTTP),
        "startupProbe": startup(resolved, "http"),
        "readinessProbe": readiness(resolved, "http"),
        "livenessProbe": liveness(resolved, "grpc"),
        "lifecycle": PRE_STOP,
    }


def startup(resolved: EffectiveSpec, port: str) -> dict[str, Any]:
    """Whether the wanted version answers for the first time, at a named port."""
    return _probe(_asks_model(resolved, port), STARTUP, resolved.spec.probes.startup)


def readiness(resolved: EffectiveSpec, port: str) -> dict[str, Any]:
    """Whether the wanted version answers now, at a named port."""
    return _probe(_asks_model(resolved, port), READINESS, resolved.spec.probes.readiness)


def liveness(resolved: EffectiveSpec, port: str) -> dict[str, Any]:
    """Whether the process listens. It must not depend on the model: restarting a server cures no model."""
    return _probe({"tcpSocket": {"port": port}}, LIVENESS, resolved.spec.probes.liveness)


def _asks_model(resolved: EffectiveSpec, port: str) -> dict[str, Any]:
    """Asks what answers 200 only once the wanted version serves (the status path answers before that)."""
    model = resolved.model
    version = f"/versions/{model.version}" if model.version is not None else ""
    path = f"/v1/models/{model.name}{version}/metadata"
    return {"httpGet": {"path": path, "port": port, "scheme": "HTTP"}}


def _probe(action: Mapping[str, Any], default: Probe, asked: Probe) -> dict[str, Any]:
    return {
        **action,
        "periodSeconds": asked.period_seconds or default.period_seconds,
        "timeoutSeconds": asked.timeout_seconds or default.timeout_seconds,
        "failureThreshold": asked.failure_threshold or default.failure_threshold,
    }
