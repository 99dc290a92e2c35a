"""What the containers of a model's pod have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from serval_contract import server_flags as flags
from serval_contract.paths import MODELS_DIR
from serval_contract.quantity import parse_whole
from serval_operator.api.blocks.endpoint import Endpoint
from serval_operator.api.blocks.names import DISABLED

_USER_ID: Final = 65532
POD_SECURITY: Final[dict[str, Any]] = {
    "runAsNonRoot": True,
    "runAsUser": _USER_ID,
    "runAsGroup": _USER_ID,
    "fsGroup": _USER_ID,
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""With `CONTAINER_SECURITY`, what Pod Security "restricted" asks for."""
CONTAINER_SECURITY: Final[dict[str, Any]] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
}

_MESSAGES: Final = 32
"""Messages of the largest size that a container's memory holds."""
_SMALLEST_LIMIT: Final = 4 * 1024**2
"""What gRPC allows by itself."""
_LARGEST_MESSAGE: Final = 2**31 - 1

PRE_STOP_SECONDS: Final = 5
PRE_STOP: Final[dict[str, Any]] = {"preStop": {"sleep": {"seconds": PRE_STOP_SECONDS}}}
"""Lets the endpoint's removal reach every node before the server that has the pod's ports begins to drain."""


def container_ports(*, grpc: int, http: int, prefix: str = "") -> list[dict[str, Any]]:
    """Ports of a container. A Service finds its target by name, so of two containers one has a prefix."""
    return [
        {"name": f"{prefix}{name}", "containerPort": port, "protocol": "TCP"}
        for name, port in (("grpc", grpc), ("http", http))
    ]


def endpoint_flags(endpoint: Endpoint, *, limits: bool, scores: bool) -> list[str]:
    """Flags of a server for what a spec says of its endpoint.

    Parameters
    ----------
    limits:
        Whether it is this server that limits the requests in progress.
    scores:
        Whether it answers ``/score`` unless told not to.
    """
    arguments = []
    if endpoint.timeout_seconds:
        arguments.append(flags.REST_API_TIMEOUT_IN_MS(endpoint.timeout_seconds * 1000))
    if limits and endpoint.max_concurrent_requests:
        arguments.append(flags.MAX_CONCURRENT_REQUESTS(endpoint.max_concurrent_requests))
    if scores and endpoint.raw_bytes == DISABLED:
        arguments.append(flags.ENABLE_SCORING(False))
    return arguments


def message_limit(limits: Mapping[str, Any], given: Sequence[str] = ()) -> list[str]:
    """The flag for the largest gRPC message of our own server, of the limits of its container.

    None where the arguments `given`, those of the runtime, set it: the last one would win.

    A request takes about four times its message: as received, as the engine's input, and its reply. So the
    memory holds eight of the largest. Without a limit of the memory the server's default holds.
    """
    memory = parse_whole(str(limits.get("memory", "")))
    size = min(max(memory // _MESSAGES, _SMALLEST_LIMIT), _LARGEST_MESSAGE)
    is_set = any(arg.startswith(flags.GRPC_MAX_MESSAGE_BYTES.prefix) for arg in given)
    return [flags.GRPC_MAX_MESSAGE_BYTES(size)] if memory and not is_set else []


def literal(text: str) -> str:
    """A text as arguments and environment variables must spell it to be taken as it is.

    Kubernetes replaces ``$(NAME)`` in both, and reads ``$$`` as one dollar sign.
    """
    return text.replace("$", "$$")


def mount(name: str, path: str, *, read_only: bool = False) -> dict[str, Any]:
    """A volume's place in a container."""
    place: dict[str, Any] = {"name": name, "mountPath": path}
    return {**place, "readOnly": True} if read_only else place


MODELS_MOUNT: Final = mount("models", MODELS_DIR)
TMP_MOUNT: Final = mount("tmp", "/tmp")  # noqa: S108 the pod's own emptyDir
