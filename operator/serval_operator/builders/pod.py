"""The pod that serves a model: the fetch init container, the model server, and their volumes.

It meets Pod Security "restricted", has no service account token and a read-only root, and is told to stop
in a way that loses no request: the preStop sleep lets the endpoint's removal reach every node before the
server begins to drain.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serval_operator.api.model import SCHEME_PVC, SCORING_DISABLED, Probe
from serval_operator.api.resolved import Resolved
from serval_operator.constants import (
    CA_DIR,
    CAP_RAW_SCORE,
    CONTAINER_FETCH,
    CONTAINER_SERVER,
    MODELS_DIR,
    PORT_GRPC,
    PORT_HTTP,
    SOURCE_DIR,
)

USER_ID = 65532
PRE_STOP_SECONDS = 5
TMP_SIZE = "1Gi"

STARTUP = Probe(period_seconds=1, timeout_seconds=2, failure_threshold=1800)
"""Asks every second, so that Ready comes as soon as the model answers, for half an hour."""
READINESS = Probe(period_seconds=5, timeout_seconds=2, failure_threshold=2)
LIVENESS = Probe(period_seconds=10, timeout_seconds=2, failure_threshold=3)

_CONTAINER_SECURITY = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
}


def pod_spec(resolved: Resolved) -> dict[str, Any]:
    """Spec of the pod."""
    spec = resolved.spec
    optional = {
        "nodeSelector": dict(resolved.node_selector),
        "tolerations": [dict(one) for one in resolved.tolerations],
        "imagePullSecrets": [{"name": name} for name in spec.image_pull_secrets],
        "priorityClassName": spec.priority_class,
    }
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": PRE_STOP_SECONDS + resolved.runtime.grace_seconds,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "fsGroup": USER_ID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "initContainers": [_fetch(resolved)],
        "containers": [_server(resolved)],
        "volumes": _volumes(resolved),
        **{field: value for field, value in optional.items() if value},
    }


def literal(text: str) -> str:
    """A text as arguments and environment variables must spell it to be taken as it is.

    Kubernetes replaces ``$(NAME)`` in both, and reads ``$$`` as one dollar sign.
    """
    return text.replace("$", "$$")


def _fetch(resolved: Resolved) -> dict[str, Any]:
    model, fetch = resolved.spec.model, resolved.fetch
    args = [
        f"--uri={literal(model.uri)}",
        f"--name={model.name}",
        f"--dest={MODELS_DIR}",
        f"--max-bytes={fetch.max_bytes}",
        f"--max-entries={fetch.max_entries}",
    ]
    mounts = [_mount("models", MODELS_DIR), _mount("tmp", "/tmp")]  # noqa: S108 the pod's own emptyDir
    if model.version is not None:
        args.append(f"--version={model.version}")
    if model.sha256:
        args.append(f"--sha256={model.sha256}")
    if model.scheme == SCHEME_PVC:
        args.append(f"--pvc-mount={SOURCE_DIR}")
        mounts.append(_mount("source", SOURCE_DIR, read_only=True))
    if model.ca_config_map:
        args.append(f"--ca-file={CA_DIR}/{model.ca_config_map[1]}")
        mounts.append(_mount("ca", CA_DIR, read_only=True))
    return {
        "name": CONTAINER_FETCH,
        "image": fetch.image,
        "imagePullPolicy": fetch.image_pull_policy,
        "command": ["python3", "-m", "serval_serving.fetch"],
        "args": args,
        "resources": dict(fetch.resources),
        "securityContext": _CONTAINER_SECURITY,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    }


def _server(resolved: Resolved) -> dict[str, Any]:
    spec, runtime = resolved.spec, resolved.runtime
    env = {**dict(runtime.env), **{name: literal(value) for name, value in spec.runtime_env}}
    asks = _http_get(_metadata_path(resolved))
    return {
        "name": CONTAINER_SERVER,
        "image": resolved.image,
        "imagePullPolicy": runtime.image_pull_policy,
        "args": _server_args(resolved),
        "env": [{"name": name, "value": value} for name, value in env.items()],
        "ports": [
            {"name": "grpc", "containerPort": PORT_GRPC, "protocol": "TCP"},
            {"name": "http", "containerPort": PORT_HTTP, "protocol": "TCP"},
        ],
        "resources": _resources(resolved),
        "startupProbe": _probe(asks, STARTUP, spec.startup),
        "readinessProbe": _probe(asks, READINESS, spec.readiness),
        # Liveness must not depend on the model: restarting a server cures no model.
        "livenessProbe": _probe({"tcpSocket": {"port": "grpc"}}, LIVENESS, spec.liveness),
        "lifecycle": {"preStop": {"sleep": {"seconds": PRE_STOP_SECONDS}}},
        "securityContext": _CONTAINER_SECURITY,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [_mount("models", MODELS_DIR, read_only=True), _mount("tmp", "/tmp")],  # noqa: S108
    }


def _server_args(resolved: Resolved) -> list[str]:
    spec, runtime = resolved.spec, resolved.runtime
    args = [
        f"--port={PORT_GRPC}",
        f"--rest_api_port={PORT_HTTP}",
        f"--model_name={spec.model.name}",
        f"--model_base_path={MODELS_DIR}/{spec.model.name}",
        *runtime.args,
    ]
    if spec.endpoint.timeout_seconds:
        args.append(f"--rest_api_timeout_in_ms={spec.endpoint.timeout_seconds * 1000}")
    if spec.endpoint.max_concurrent_requests:
        args.append(f"--max_concurrent_requests={spec.endpoint.max_concurrent_requests}")
    if spec.endpoint.scoring == SCORING_DISABLED and CAP_RAW_SCORE in runtime.capabilities:
        args.append("--enable_scoring=false")
    return [*args, *(literal(arg) for arg in spec.runtime_args)]


def _metadata_path(resolved: Resolved) -> str:
    """Path that answers 200 only once the wanted version serves (the status path answers before that)."""
    model = resolved.spec.model
    version = f"/versions/{model.version}" if model.version is not None else ""
    return f"/v1/models/{model.name}{version}/metadata"


def _resources(resolved: Resolved) -> dict[str, Any]:
    """Requests and limits; an extended resource must stand in both, with the same count.

    Quantities become texts, as the API server writes them: 2 and "2" are one revision.
    """
    asked = {
        side: {name: str(amount) for name, amount in values.items()}
        for side, values in resolved.spec.resources.items()
        if values
    }
    if resolved.resource_name:
        for side in ("requests", "limits"):
            asked.setdefault(side, {})[resolved.resource_name] = str(resolved.resource_count)
    return asked


def _probe(action: Mapping[str, Any], default: Probe, asked: Probe) -> dict[str, Any]:
    return {
        **action,
        "periodSeconds": asked.period_seconds or default.period_seconds,
        "timeoutSeconds": asked.timeout_seconds or default.timeout_seconds,
        "failureThreshold": asked.failure_threshold or default.failure_threshold,
    }


def _http_get(path: str) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": "http", "scheme": "HTTP"}}


def _volumes(resolved: Resolved) -> list[dict[str, Any]]:
    model = resolved.spec.model
    # Twice the cap: an archive and what it unpacks to lie side by side for a moment.
    size = str(2 * resolved.fetch.max_bytes)
    volumes: list[dict[str, Any]] = [
        {"name": "models", "emptyDir": {"sizeLimit": size}},
        {"name": "tmp", "emptyDir": {"sizeLimit": TMP_SIZE}},
    ]
    if model.scheme == SCHEME_PVC:
        claim = {"claimName": model.claim, "readOnly": True}
        volumes.append({"name": "source", "persistentVolumeClaim": claim})
    if model.ca_config_map:
        name, key = model.ca_config_map
        volumes.append({"name": "ca", "configMap": {"name": name, "items": [{"key": key, "path": key}]}})
    return volumes


def _mount(name: str, path: str, *, read_only: bool = False) -> dict[str, Any]:
    mount: dict[str, Any] = {"name": name, "mountPath": path}
    return {**mount, "readOnly": True} if read_only else mount
