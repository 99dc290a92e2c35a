"""The predict upstream server the proxy: its channel, and the calls that the proxy makes for itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

import grpc
from grpc import experimental

from serval_serving.server.metadata import SIGNATURE_DEF
from serval_serving.wire import messages, rpc
from serval_serving.wire.services import METHODS
from serval_serving.wire.status import StatusError
from serval_serving.wire.tracing import MODEL_DIGEST

Metadata = Sequence[tuple[str, str | bytes]]

UNREACHABLE: Final = "The server behind this front, {address}, does not answer: {details}"

_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A request that is longer than this is not sent again when its connection ends before it was taken.
    ("grpc.per_rpc_retry_buffer_size", 64 << 20),
    # It is on this machine, whatever proxy the environment names for others.
    ("grpc.enable_http_proxy", 0),
    # It starts beside the proxy, or starts again: look for it often.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Calls that pass through run in the thread that has the request, and can be cancelled from another. A
    # unary call has only one of both: waiting in the thread, or a future that a further thread completes.
    (experimental.ChannelOptions.SingleThreadedUnaryStream, 1),
)
_BROKEN: Final = (
    "failed to connect to ",
    "Stream removed",
    "Socket closed",
    "recvmsg:",
    "Connection reset",
    "Broken pipe",
)
"""How gRPC's own words begin where there is no connection, or none any more."""
_REMOVED: Final = "Stream removed"
_SENT_OFF: Final = "GOAWAY received"
"""In gRPC's words about a call that came just when the server had asked the proxy to connect anew. A server
that does so ends what it has taken before it closes, so it never took this one. Where the proxy was still
sending, gRPC does not see that, and does not send the call again by itself."""
_UNREAD: Final = ("Broken pipe", "Connection reset")
"""In gRPC's words about a connection that was closed before the server had read all its bytes. The reset may
overtake the server's request for a new connection. A server that ends what it has taken before it closes had
read those requests whole, so the lost ones were still being sent."""
_ATTEMPTS: Final = 3
_REPEATABLE: Final = frozenset({method.path for method in METHODS} - {rpc.HANDLE_RELOAD_CONFIG.path})
"""Methods that change nothing: to run one of them twice does no harm, if the server was killed after all."""


class Ended(NamedTuple):
    """A call that ended.

    Attributes
    ----------
    call:
        Its status and metadata.
    replies:
        The bytes of its replies: one for a unary method that succeeded.
    """

    call: Any
    replies: list[bytes]


class Signatures(NamedTuple):
    """The signatures of a version.

    Attributes
    ----------
    reply:
        What GetModelMetadata answered.
    digest:
        Digest of the version's files; empty unless the server says it.
    """

    reply: messages.GetModelMetadataResponse
    digest: str


class Upstream:
    """A predict server in clear text, as a rule on this machine.

    Parameters
    ----------
    address:
        `host:port` of its gRPC port.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._channel = grpc.insecure_channel(address, options=_OPTIONS)
        self._passed = {method.path: self._channel.unary_stream(method.path) for method in METHODS}
        self._own = {
            method: self._channel.unary_unary(method.path)
            for method in (rpc.PREDICT, rpc.GET_MODEL_STATUS, rpc.GET_MODEL_METADATA)
        }

    def forward(
        self,
        path: str,
        request: bytes,
        seconds: float | None,
        metadata: Metadata,
        begun: Callable[[Any], None],
    ) -> Ended:
        """Pass a call on in this thread and wait for its end; repeat a call that the server never took.

        The call is a stream of replies, of which a unary one has one: on the wire both are the same.

        Parameters
        ----------
        path:
            The method.
        request:
            The message.
        seconds:
            Until the call is ended with DEADLINE_EXCEEDED; None for no limit.
        metadata:
            For the server.
        begun:
            Receives the call once it has begun, for example to cancel it from another thread.
        """
        method = self._passed.get(path) or self._channel.unary_stream(path)
        left = _time_left(seconds)
        for attempt in range(1, _ATTEMPTS + 1):
            call = method(request, timeout=left(), metadata=metadata)
            begun(call)
            replies: list[bytes] = []
            # The call itself is the error, and says what went wrong.
            with suppress(grpc.RpcError):
                replies.extend(call)
            if replies or attempt == _ATTEMPTS or not _never_taken(call, path):
                break
        return Ended(call, replies)

    def status(self, spec: messages.ModelSpec, seconds: float) -> messages.GetModelStatusResponse:
        """Ask for the states of a model's versions.

        Raises
        ------
        StatusError
            The answer of the server, or UNAVAILABLE if it cannot be reached.
        """
        request = messages.GetModelStatusRequest(model_spec=spec)
        reply, _ = self._answer(rpc.GET_MODEL_STATUS, request.SerializeToString(), seconds)
        return messages.GetModelStatusResponse.FromString(reply)

    def metadata(self, spec: messages.ModelSpec, seconds: float | None) -> Signatures:
        """Ask for the signatures of a version. Raises as `status`."""
        request = messages.GetModelMetadataRequest(model_spec=spec, metadata_field=[SIGNATURE_DEF])
        reply, call = self._answer(rpc.GET_MODEL_METADATA, request.SerializeToString(), seconds)
        digests = [str(value) for name, value in call.trailing_metadata() or () if name == MODEL_DIGEST]
        return Signatures(messages.GetModelMetadataResponse.FromString(reply), digests[0] if digests else "")

    def predict(self, request: bytes, seconds: float | None, metadata: Metadata = ()) -> bytes:
        """Predict, from the bytes of a request to those of a reply. Raises as `status`."""
        return self._answer(rpc.PREDICT, request, seconds, metadata)[0]

    def told(self, code: grpc.StatusCode, details: str) -> str:
        """Give the text of a failure: that of the server, or that it does not answer."""
        if code is grpc.StatusCode.UNAVAILABLE and details.startswith(_BROKEN):
            return UNREACHABLE.format(address=self.address, details=details)
        return details

    def close(self) -> None:
        """Close the connection; calls in progress are cancelled."""
        self._channel.close()

    def _answer(
        self, method: rpc.Method, request: bytes, seconds: float | None, metadata: Metadata = ()
    ) -> tuple[bytes, Any]:
        """Make a call of the proxy's own and return the bytes of its reply, and the call.

        It needs no cancellation from another thread, so it is a plain unary call, which takes less CPU time.
        """
        send: Callable[..., tuple[bytes, Any]] = self._own[method].with_call
        left = _time_left(seconds)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return send(request, timeout=left(), metadata=metadata)
            except grpc.RpcError as error:
                if attempt == _ATTEMPTS or not _never_taken(error, method.path):
                    code = error.code()
                    raise StatusError(code, self.told(code, error.details() or "")) from error
        raise AssertionError  # The last attempt returns or raises.


def _time_left(seconds: float | None) -> Callable[[], float | None]:
    """Make what says how much of a time is left; None for any time."""
    if seconds is None:
        return lambda: None
    end = time.monotonic() + seconds
    return lambda: max(0.0, end - time.monotonic())


def _never_taken(call: Any, path: str) -> bool:
    """Say of a call that ended whether the server did not take it, so that it may be sent once more."""
    details = call.details() or ""
    if call.code() is not grpc.StatusCode.UNAVAILABLE or not details.startswith(_REMOVED):
        return False
    return _SENT_OFF in details or (path in _REPEATABLE and any(words in details for words in _UNREAD))
