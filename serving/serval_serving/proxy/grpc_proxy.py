"""Forwards gRPC calls: bytes in, bytes out, with the caller's deadline, metadata and cancellation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Final

import grpc

from serval_serving.proxy.message_split import UNREADABLE, read, spec_of
from serval_serving.proxy.request_rewriter import Request, RequestRewriter
from serval_serving.proxy.tensor_names import restore
from serval_serving.proxy.upstream import Upstream
from serval_serving.server.grpc_calls import Receive, answer, time_left, unary_handler
from serval_serving.server.keys import HEADER
from serval_serving.server.metrics import GRPC
from serval_serving.server.pipeline import Call, Endpoint, Pipeline
from serval_serving.server.reload import NO_RELOAD
from serval_serving.server.request_timing import waited
from serval_serving.server.sampling import Sampler
from serval_serving.wire import rpc
from serval_serving.wire.services import METHODS
from serval_serving.wire.status import StatusError
from serval_serving.wire.tracing import CLIENT_REQUEST_ID, MODEL_VERSION, REQUEST_ID

STREAMED: Final = "{path} answers no single message, and this front passes on nothing else."

_OWN_SERVICES: Final = "/grpc."
"""Health checks and reflection are about this server."""

_CONTROL: Final = (
    rpc.HANDLE_RELOAD_CONFIG.path,
    "/tensorflow.ProfilerService/",
    "/tensorflow.ProfileAnalysis/",
)
"""How the paths begin of methods that change the upstream server, or slow it down."""

_ENDPOINTS: Final = {
    **{
        method.path: Endpoint(method.name, GRPC)
        for method in (rpc.PREDICT, rpc.CLASSIFY, rpc.REGRESS, rpc.MULTI_INFERENCE)
    },
    **{
        method.path: Endpoint(method.name, GRPC, open=True, limited=False, counted=False)
        for method in (rpc.GET_MODEL_METADATA, rpc.GET_MODEL_STATUS)
    },
}
"""Predictions, and calls that need no key. All others need a key, and are not counted."""

_VERSIONED: Final = frozenset({rpc.PREDICT.path, rpc.CLASSIFY.path, rpc.REGRESS.path})
_MOST_DIGITS: Final = 19
"""Versions are numbers of 63 bits."""
_REPLY_SPEC: Final = 2
"""Number of the field `model_spec` in the replies of these."""

_HOP: Final = frozenset({"user-agent", "content-type", "te", "connection", "host"})
_ANSWERED: Final = _HOP | {REQUEST_ID, CLIENT_REQUEST_ID}
"""The ids are those of this front, in both directions: it makes one where the caller has none."""
_RESERVED: Final = "grpc-"
_STATUS_DETAILS: Final = "grpc-status-details-bin"
"""The one reserved name that servers, not gRPC, fill: the details of an error."""


class GrpcProxy(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Answers every unary method of any service with what the upstream server answers.

    Parameters
    ----------
    upstream:
        The upstream server.
    requests:
        Makes requests ready for it.
    pipeline:
        Takes the calls through the common steps.
    sampler:
        Takes samples of predictions; None for none.
    reloads:
        Whether callers may change which models the upstream server has, and profile it.
    """

    def __init__(
        self,
        upstream: Upstream,
        requests: RequestRewriter,
        pipeline: Pipeline,
        sampler: Sampler | None = None,
        *,
        reloads: bool = False,
    ) -> None:
        self._upstream = upstream
        self._requests = requests
        self._pipeline = pipeline
        self._reloads = reloads
        self._sampler = sampler
        # The key is not forwarded by the server that checks it.
        self._dropped = _ANSWERED | {HEADER} if pipeline.has_keys else _ANSWERED
        self._known = {method.path: self._handler(method.path) for method in METHODS}

    def service(self, handler_call_details: Any) -> Any:
        """Find what handles a call; None leaves it to others."""
        path: str = handler_call_details.method
        if path.startswith(_OWN_SERVICES):
            return None
        return self._known.get(path) or self._handler(path)

    def _handler(self, path: str) -> Any:
        """Make what handles a method."""
        endpoint = _ENDPOINTS.get(path) or Endpoint(path, GRPC, limited=False, counted=False)
        return unary_handler(self._pipeline, partial(self._answer, path, endpoint), keyless=endpoint.open)

    def _answer(self, path: str, endpoint: Endpoint, receive: Receive, context: Any) -> bytes:
        """Answer a call."""

        def forward(call: Call, data: bytes) -> bytes:
            request = self._requests.prepared(path, data, time_left(context))
            call.model = request.model
            return self._forward(path, request, call, context)

        def steps(call: Call) -> bytes:
            if path.startswith(_CONTROL) and not self._reloads:
                raise StatusError(grpc.StatusCode.PERMISSION_DENIED, NO_RELOAD)
            data = receive()
            call.received(len(data), waited())
            with self._pipeline.receipts.holding(len(data)):
                return call.run(lambda: forward(call, data))

        name = self._requests.name
        return answer(self._pipeline, endpoint, context, steps, model=name, cut=False)

    def _forward(self, path: str, request: Request, asked: Call, context: Any) -> bytes:
        """Make the call and return its reply.

        Raises
        ------
        StatusError
            The status of the call.
        """
        metadata = [*_passed(context.invocation_metadata(), self._dropped), *asked.trace.ids()]

        def cancel_with_caller(call: Any) -> None:
            if not context.add_callback(call.cancel):
                call.cancel()

        call, replies = self._upstream.forward(
            path, request.data, time_left(context), metadata, cancel_with_caller
        )
        code, details = call.code(), call.details() or ""
        begun = _passed(call.initial_metadata() or (), _ANSWERED)
        if begun:
            context.send_initial_metadata(begun)
        asked.ending = _passed(call.trailing_metadata() or (), _ANSWERED)
        if code is not grpc.StatusCode.OK:
            raise StatusError(code, self._upstream.told(code, details))
        if len(replies) != 1:
            raise StatusError(grpc.StatusCode.UNIMPLEMENTED, STREAMED.format(path=path))
        asked.trace.version = _version(path, replies[0], asked.ending)
        if self._sampler is not None:
            version = asked.trace.version or _told_version(asked.ending)
            self._sampler.take_call(path, request.model, version, request.data, replies[0])
        return restore(replies[0], request.outputs)


def _version(path: str, reply: bytes, ending: Sequence[tuple[str, str | bytes]]) -> int | None:
    """Read which version answered, if the server behind did not say so in its metadata."""
    if path not in _VERSIONED or any(key == MODEL_VERSION for key, _ in ending):
        return None
    try:
        spec = spec_of(reply, read(reply), _REPLY_SPEC)
    except UNREADABLE:
        return None
    return spec.version.value if spec is not None and spec.HasField("version") else None


def _told_version(ending: Sequence[tuple[str, str | bytes]]) -> int:
    """Read which version the server behind says has answered; 0 if it says none."""
    told = next((str(value) for key, value in ending if key == MODEL_VERSION), "")
    return int(told) if told.isascii() and told.isdecimal() and len(told) < _MOST_DIGITS else 0


def _passed(
    metadata: Iterable[tuple[str, str | bytes]], dropped: frozenset[str]
) -> list[tuple[str, str | bytes]]:
    """Give the metadata that are the peers' own, and not gRPC's or of this one connection."""
    return [
        (key, value)
        for key, value in metadata
        if key not in dropped and (not key.startswith(_RESERVED) or key == _STATUS_DETAILS)
    ]
