"""gRPC calls in the pipeline: message bytes in, message bytes out.

All methods are registered as if clients sent several messages. On the wire that is the same. grpcio then
calls a behavior when a call begins, not when its message is complete: so a caller without a key is refused
before a byte of his message is read, and a message that never comes can be given up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import DecodeError

from serval_serving.server.pipeline import Call, Endpoint, Pipeline
from serval_serving.server.receipts import LATE
from serval_serving.wire.status import StatusError, cut_message
from serval_serving.wire.timing import REPLY_HEADER

_T = TypeVar("_T")
Receive = Callable[[], bytes]
"""Waits for the message of a call. Raises StatusError if it does not come."""

UNREADABLE: Final = "Exception deserializing request!"
"""What grpcio answers to a message that cannot be read."""
GONE: Final = "The call ended before its message was complete."
MAX_KEYLESS_BYTES: Final = 64 * 1024
"""A call that needs no key has a message of a few hundred bytes."""
TOO_LARGE: Final = f"Calls that need no key have messages of at most {MAX_KEYLESS_BYTES} bytes."
NO_MESSAGE: Final = "This call requires exactly one request message."

LONGEST_DEADLINE_SECONDS: Final = 86_400.0
"""A deadline that is further away counts as none: no client waits for a day."""


class GrpcCaller:
    """The caller of an RPC.

    Parameters
    ----------
    context:
        The call's `grpc.ServicerContext`.
    """

    __slots__ = ("_context", "_headers")

    def __init__(self, context: Any) -> None:
        self._context = context
        self._headers: dict[str, str] = dict(context.invocation_metadata())

    def peer(self) -> str | None:
        """Return the address, as gRPC writes it."""
        peer: str | None = self._context.peer()
        return peer

    def header(self, name: str) -> str | None:
        """Return the last value of a key of the metadata; None if it is absent."""
        return self._headers.get(name)


def unary_handler(
    pipeline: Pipeline, behavior: Callable[[Receive, Any], bytes], *, keyless: bool = False
) -> Any:
    """Make the handler of a method with one message and one reply, both bytes.

    Parameters
    ----------
    pipeline:
        Knows the messages that are arriving.
    behavior:
        Makes the reply of what waits for the message, and the call's `grpc.ServicerContext`.
    keyless:
        Whether its calls need no key.
    """

    def begun(arriving: Iterator[bytes], context: Any) -> bytes:
        return behavior(lambda: receive(pipeline, arriving, context, keyless=keyless), context)

    return grpc.stream_unary_rpc_method_handler(begun)


def receive(pipeline: Pipeline, arriving: Iterator[bytes], context: Any, *, keyless: bool = False) -> bytes:
    """Wait for a message of a call. `keyless`: the call needs no key, so its message must be small.

    Raises
    ------
    StatusError
        UNIMPLEMENTED: the caller sent none; CANCELLED: the call ended before; RESOURCE_EXHAUSTED: there is no
        room for it, or it is too large; DEADLINE_EXCEEDED: it took too long.
    """
    cut = False

    def end() -> None:
        nonlocal cut
        cut = True
        context.cancel()

    with pipeline.receipts.receiving(end, keyless=keyless):
        try:
            data = next(arriving)
        except StopIteration:
            raise StatusError(grpc.StatusCode.UNIMPLEMENTED, NO_MESSAGE) from None
        except grpc.RpcError as error:
            code = grpc.StatusCode.DEADLINE_EXCEEDED if cut else grpc.StatusCode.CANCELLED
            raise StatusError(code, LATE if cut else GONE) from error
    if keyless and len(data) > MAX_KEYLESS_BYTES:
        raise StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, TOO_LARGE)
    return data


def read_message(read: Callable[[bytes], _T], data: bytes) -> _T:
    """Read a message.

    Raises
    ------
    StatusError
        INTERNAL with the text of grpcio: these bytes are no such message.
    """
    try:
        return read(data)
    except DecodeError as error:
        raise StatusError(grpc.StatusCode.INTERNAL, UNREADABLE) from error


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
    context.set_trailing_metadata(_ending(call))
    if isinstance(reply, StatusError):
        context.abort(reply.code, cut_message(reply.message) if cut else reply.message)
        raise reply  # `abort` does not return.
    return reply


def _ending(call: Call) -> Sequence[tuple[str, str | bytes]]:
    """Return the metadata that follow a reply, or an error."""
    ending: list[tuple[str, str | bytes]] = [*call.trace.reply_headers()]
    if not call.times:
        return [*ending, *call.ending]
    # The server behind a proxy tells its own times; the client gets one answer, that of the whole way.
    return [*ending, *(one for one in call.ending if one[0] != REPLY_HEADER), (REPLY_HEADER, call.times)]


def time_left(context: Any) -> float | None:
    """Seconds until the client's deadline; None if it has none, which grpcio reports as about 300 years."""
    left: float | None = context.time_remaining()
    return None if left is None or left > LONGEST_DEADLINE_SECONDS else left
