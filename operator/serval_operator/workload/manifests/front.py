"""The front: our own server before a runtime's server that lacks what a spec asks for.

It has the pod's ports, and the runtime's server listens behind it. That server is then a sidecar (an init
container that never ends) and the front the pod's main container: so the kubelet itself keeps the order in
which both may stop, see docs/design/0013-the-front.md.
"""

from __future__ import annotations

from typing import Any

from serval_contract import server_flags as flags
from serval_contract.ports import PORT_BEHIND_GRPC, PORT_BEHIND_HTTP, PORT_GRPC, PORT_HTTP
from serval_operator.api.capabilities import CONCURRENCY_LIMIT
from serval_operator.config import FrontSettings, Runtime
from serval_operator.constants import CONTAINER_FRONT
from serval_operator.workload.effective_spec import EffectiveSpec
from serval_operator.workload.manifests.containers import (
    CONTAINER_SECURITY,
    endpoint_flags,
    literal,
    message_limit,
)
from serval_operator.workload.manifests.probes import facing

_OWN_FLAGS = (flags.SCORING_OUTPUT.prefix, flags.GRPC_MAX_MESSAGE_BYTES.prefix)
"""Flags that a user gives the server, and that mean what the front does."""
LAST_SECONDS = 5
"""What remains for the server behind, which has no request any more once its front has ended."""


def kept_back(runtime: Runtime) -> tuple[str, ...]:
    """What arguments of a user start with that a server behind a front does not get.

    The size of messages is limited by the front and also by a server that knows the flag.
    """
    knows_size = CONCURRENCY_LIMIT.name in runtime.capabilities
    return tuple(one for one in _OWN_FLAGS if not knows_size or one != flags.GRPC_MAX_MESSAGE_BYTES.prefix)


def front_container(resolved: EffectiveSpec, front: FrontSettings) -> dict[str, Any]:
    """The front. Startup and readiness ask the model through it, so it is ready only where both are.

    It has no volume: what the server behind it reads and writes is not its own.
    """
    return {
        "name": CONTAINER_FRONT,
        "image": front.image,
        "imagePullPolicy": front.image_pull_policy,
        "args": _arguments(resolved, front),
        "resources": dict(front.resources),
        **facing(resolved),
        "securityContext": CONTAINER_SECURITY,
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def _arguments(resolved: EffectiveSpec, front: FrontSettings) -> list[str]:
    arguments = [
        flags.PORT(PORT_GRPC),
        flags.REST_API_PORT(PORT_HTTP),
        flags.MODEL_NAME(resolved.model.name),
        flags.UPSTREAM(f"127.0.0.1:{PORT_BEHIND_GRPC}"),
        flags.UPSTREAM_REST(f"127.0.0.1:{PORT_BEHIND_HTTP}"),
        flags.DRAIN_SECONDS(resolved.runtime.grace_seconds),
    ]
    arguments += message_limit(front.resources.get("limits") or {})
    arguments += endpoint_flags(resolved.spec.endpoint, limits=True, scores=True)
    return [*arguments, *(literal(arg) for arg in resolved.spec.runtime.args if arg.startswith(_OWN_FLAGS))]
