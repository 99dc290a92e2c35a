"""Passes gRPC calls on: bytes in, bytes out, with the caller's deadline, metadata and cancellation."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from typing import Any, Final

import grpc

from serval_serving.front.aliases import restore
from serval_serving.front.requests import Request, Requests
from serval_serving.front.upstream import Upstream
from serval_serving.server import access
from serval_serving.server.inference import Admission
from serval_serving.server.keys import HEADER, Keys
from serval_serving.server.metrics import GRPC
from serval_serving.server.services import time_left
from serval_serving.wire import rpc
from serval_serving.wire.services import METHODS
from serval_serving.wire.status import StatusError

STREAMED: Final = "{path} answers no single message, and this front passes on nothing else."

_OWN_SERVICES: Final = "/grpc."
"""Health checks and reflection are about this server."""

_PREDICTIONS: Final = {
    method.path: method.name for method in (rpc.PREDICT, rpc.CLASSIFY, rpc.REGRESS, rpc.MULTI_INFERENCE)
}
"""Calls that are counted and limited, and what the metrics call them."""

_OPEN: Final = frozenset({rpc.GET_MODEL_METADATA.path, rpc.GET_MODEL_STATUS.path})
"""Calls that want no key."""

_HOP: Final = frozenset({"user-agent", "content-type", "te", "connection", "host"})
_RESERVED: Final = "grpc-"
_STATUS_DETAILS: Final = "grpc-status-details-bin"
"""The one reserved name that servers, not gRPC, fill: the details of an error."""

Metadata = list[tuple[str, str | bytes]]


class Relay(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Answers every unary method of any service with what the server behind answers.

    Parameters
    ----------
    upstream:
        The server behind.
    requests:
        Makes requests ready for it.
    admission:
        Counts and limits.
    keys:
        What callers must show; None for nothing.
    """

    def __init__(
        self, upstream: Upstream, requests: Requests, admission: Admission, keys: Keys | None = None
    ) -> None:
        self._upstream = upstream
        self._requests = requests
        self._admission = admission
        self._keys = keys
        # A key is for whoever checks it.
        self._dropped = _HOP | {HEADER} if keys is not None else _HOP
        self._known = {method.path: self._handler(method.path) for method in METHODS}

    def service(self, handler_call_details: Any) -> Any:
        """Find what handles a call; None leaves it to others."""
        path: str = handler_call_details.method
        if path.startswith(_OWN_SERVICES):
            return None
        return self._known.get(path) or self._handler(path)

    def _handler(self, path: str) -> Any:
        """Make what handles a method."""
        api = _PREDICTIONS.get(path)
        if api is None:
            return grpc.unary_unary_rpc_method_handler(partial(self._pass, path))
        return grpc.unary_unary_rpc_method_handler(partial(self._predict, path, api))

    def _pass(self, path: str, data: bytes, context: Any) -> bytes:
        """Answer a call that is no prediction."""
        try:
            if path not in _OPEN:
                self._check_key(context)
        except StatusError as error:
            context.abort(error.code, error.message)
        request = self._requests.prepared(path, data, time_left(context))
        return _ended(context, *self._forward(path, request, context))

    def _predict(self, path: str, api: str, data: bytes, context: Any) -> bytes:
        """Answer a prediction, and count it."""
        admission, metrics = self._admission, self._admission.metrics
        started = admission.now()
        request = Request(self._requests.name, data)
        reply = b""
        try:
            self._check_key(context)
            with admission.admitted():
                request = self._requests.prepared(path, data, time_left(context))
                reply, code, details = self._forward(path, request, context)
        except StatusError as error:
            code, details = error.code, error.message
        seconds = admission.now() - started
        metrics.ended(request.model, code)
        if code is grpc.StatusCode.OK:
            metrics.request_latency.observe(seconds * 1e6, request.model, api, GRPC)
            metrics.request_bytes.add(request.model, GRPC, amount=len(data))
        if access.enabled():
            access.note(context.peer(), api, request.model, code, seconds, len(data))
        return _ended(context, reply, code, details)

    def _check_key(self, context: Any) -> None:
        """Check the caller's key, where one is wanted."""
        if self._keys is not None:
            self._keys.check(dict(context.invocation_metadata()).get(HEADER))

    def _forward(self, path: str, request: Request, context: Any) -> tuple[bytes, grpc.StatusCode, str]:
        """Make the call; the answer is its reply, its status and the status' text."""
        metadata = _passed(context.invocation_metadata(), self._dropped)
        call, replies = self._called(path, request, context, metadata)
        if self._upstream.never_took(call):
            call, replies = self._called(path, request, context, metadata)
        code, details = call.code(), call.details() or ""
        begun = _passed(call.initial_metadata() or (), _HOP)
        if begun:
            context.send_initial_metadata(begun)
        ending = _passed(call.trailing_metadata() or (), _HOP)
        if ending:
            context.set_trailing_metadata(ending)
        if code is not grpc.StatusCode.OK:
            return b"", code, self._upstream.told(code, details)
        if len(replies) != 1:
            return b"", grpc.StatusCode.UNIMPLEMENTED, STREAMED.format(path=path)
        return restore(replies[0], request.outputs), code, details

    def _called(
        self, path: str, request: Request, context: Any, metadata: Metadata
    ) -> tuple[Any, list[bytes]]:
        """Call once, and wait for the end; the call that ended, and its replies."""
        call = self._upstream.begin(path, request.data, time_left(context), metadata)
        if not context.add_callback(call.cancel):
            call.cancel()
        replies: list[bytes] = []
        # The call itself is the error, and says what went wrong.
        with suppress(grpc.RpcError):
            replies.extend(call)
        return call, replies


def _ended(context: Any, reply: bytes, code: grpc.StatusCode, details: str) -> bytes:
    """End a call with its reply, or with its status."""
    if code is not grpc.StatusCode.OK:
        context.abort(code, details)
    return reply


def _passed(metadata: Iterable[tuple[str, str | bytes]], dropped: frozenset[str]) -> Metadata:
    """Give the metadata that are the peers' own, and not gRPC's or of this one connection."""
    return [
        (key, value)
        for key, value in metadata
        if key not in dropped and (not key.startswith(_RESERVED) or key == _STATUS_DETAILS)
    ]
