"""The predict upstream server the proxy: its channel, and the calls that the proxy makes for itself."""

from __future__ import annotations

from typing import Any, Final

import grpc
from grpc import experimental

from serval_serving.server.metadata import SIGNATURE_DEF
from serval_serving.wire import messages, rpc
from serval_serving.wire.services import METHODS
from serval_serving.wire.status import StatusError

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
        self._status = rpc.multicallable(self._channel, rpc.GET_MODEL_STATUS)
        self._metadata = rpc.multicallable(self._channel, rpc.GET_MODEL_METADATA)
        self._predict = rpc.multicallable(self._channel, rpc.PREDICT)

    def begin(
        self, path: str, request: bytes, seconds: float | None, metadata: list[tuple[str, str | bytes]]
    ) -> Any:
        """Begin a call; iterating over it gives the bytes of its reply.

        The call is a stream of replies, of which a unary one has one: on the wire both are the same.
        """
        call = self._passed.get(path) or self._channel.unary_stream(path)
        return call(request, timeout=seconds, metadata=metadata)

    def status(self, spec: messages.ModelSpec, seconds: float) -> messages.GetModelStatusResponse:
        """Ask for the states of a model's versions.

        Raises
        ------
        StatusError
            What the server, or the way to it, says.
        """
        response: messages.GetModelStatusResponse = self._ask(
            self._status, messages.GetModelStatusRequest(model_spec=spec), seconds
        )
        return response

    def metadata(self, spec: messages.ModelSpec, seconds: float | None) -> messages.GetModelMetadataResponse:
        """Ask for the signatures of a version. Raises as `status`."""
        request = messages.GetModelMetadataRequest(model_spec=spec, metadata_field=[SIGNATURE_DEF])
        response: messages.GetModelMetadataResponse = self._ask(self._metadata, request, seconds)
        return response

    def predict(self, request: messages.PredictRequest, seconds: float | None) -> messages.PredictResponse:
        """Predict. Raises as `status`."""
        response: messages.PredictResponse = self._ask(self._predict, request, seconds)
        return response

    def told(self, code: grpc.StatusCode, details: str) -> str:
        """Give the text of a failure: that of the server, or that it does not answer."""
        if code is grpc.StatusCode.UNAVAILABLE and details.startswith(_BROKEN):
            return UNREACHABLE.format(address=self.address, details=details)
        return details

    def never_took(self, call: Any) -> bool:
        """Say of a call that ended whether it came too late for a connection, and may be sent once more."""
        details = call.details() or ""
        unavailable = call.code() is grpc.StatusCode.UNAVAILABLE
        return unavailable and details.startswith(_REMOVED) and _SENT_OFF in details

    def close(self) -> None:
        """Close the connection; calls in progress are cancelled."""
        self._channel.close()

    def _ask(self, call: Any, request: Any, seconds: float | None) -> Any:
        """Make a call of the proxy's own."""
        try:
            return call(request, timeout=seconds)
        except grpc.RpcError as error:
            code = error.code()
            raise StatusError(code, self.told(code, error.details() or "")) from error
