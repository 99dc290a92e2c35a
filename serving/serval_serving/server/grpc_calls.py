"""gRPC calls in the pipeline: message bytes in, message bytes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from serval_serving.server.pipeline import Call, Endpoint, Pipeline
from serval_serving.wire.status import StatusError, cut_message

LONGEST_DEADLINE_SECONDS: Final = 86_400.0
"""A deadline that is further away counts as none: no client waits for a day."""


class GrpcCaller:
    """The caller of an RPC.

    Parameters
    ----------
    context:
        The call's `grpc.ServicerContext`.
    """

    __slots__ = ("_context",)

    def __init__(self, context: Any) -> None:
        self._context = context

    def peer(self) -> str | None:
        """Return the address, as gRPC writes it."""
        peer: str | None = self._context.peer()
        return peer

    def header(self, name: str) -> str | None:
        """Return the last value of a key of the metadata; None if it is absent."""
        found: str | None = None
        for key, value in self._context.invocation_metadata():
            if key == name:
                found = value
        return found


def answer(
    pipeline: Pipeline,
    endpoint: Endpoint,
    context: Any,
    steps: Callable[[Call], bytes],
    *,
    model: str = "",
    cut: bool = True,
) -> bytes:
    """Answer a call with the reply of the steps, or abort it with their status.

    Parameters
    ----------
    pipeline, endpoint:
        What the call goes through.
    context:
        The call's `grpc.ServicerContext`.
    steps:
        Read the message and do the work.
    model:
        Name of the model, as far as it is known before the message is read.
    cut:
        Whether long texts of a status are cut. Those of another server pass as they are.
    """
    call = pipeline.call(endpoint, GrpcCaller(context), time_left(context))
    call.model = model
    reply = pipeline.answer(call, steps)
    if isinstance(reply, StatusError):
        context.abort(reply.code, cut_message(reply.message) if cut else reply.message)
        raise reply  # `abort` does not return.
    return reply


def time_left(context: Any) -> float | None:
    """Seconds until the client's deadline; None if it has none, which grpcio reports as about 300 years."""
    left: float | None = context.time_remaining()
    return None if left is None or left > LONGEST_DEADLINE_SECONDS else left
