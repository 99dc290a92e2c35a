"""Health checks and reflection: services of gRPC's libraries, behind the pipeline's check of keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial, wraps
from typing import Any, Final

import grpc

from serval_serving.server.grpc_calls import GrpcCaller, read_message, receive
from serval_serving.server.metrics import GRPC
from serval_serving.server.pipeline import Endpoint, Pipeline
from serval_serving.wire.status import StatusError

_open = partial(Endpoint, entrypoint=GRPC, open=True, limited=False, counted=False)

ENDPOINTS: Final[Mapping[str, Endpoint]] = {
    "/grpc.health.v1.Health/Check": _open("Check"),
    "/grpc.health.v1.Health/List": _open("List"),
    "/grpc.health.v1.Health/Watch": _open("Watch"),
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _open("ServerReflectionInfo"),
}
"""The methods that are answered. Probes and tools such as grpcurl have no key, so they are open."""


class LibraryServices(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Answers the methods of the table; all others are UNIMPLEMENTED, whatever a library registers.

    Stands in for the server in the registration functions of the libraries.

    Parameters
    ----------
    pipeline:
        Checks the keys of methods that are not open.
    pool:
        Threads for them.
    endpoints:
        The table, by path.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        pool: ThreadPoolExecutor,
        endpoints: Mapping[str, Endpoint] = ENDPOINTS,
    ) -> None:
        self._pipeline = pipeline
        self._pool = pool
        self._endpoints = endpoints
        self._handlers: dict[str, Any] = {}

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """Ignore what is registered a second time: `add_registered_method_handlers` gets the same methods."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Take the methods of a service that the table has."""
        for name, handler in handlers.items():
            path = f"/{service}/{name}"
            endpoint = self._endpoints.get(path)
            if endpoint is not None:
                self._handlers[path] = self._checked(endpoint, handler)

    def service(self, handler_call_details: Any) -> Any:
        """Find what handles a call; None leaves it to others."""
        return self._handlers.get(handler_call_details.method)

    def _checked(self, endpoint: Endpoint, handler: Any) -> Any:
        """Make a handler that checks the key, and then receives and reads messages as all others do."""
        if handler.unary_unary is not None:
            behavior, make = handler.unary_unary, grpc.stream_unary_rpc_method_handler
        else:
            behavior = handler.unary_stream or handler.stream_stream
            make = grpc.stream_stream_rpc_method_handler
        read = handler.request_deserializer
        begun = self._after_check(endpoint, behavior, read, several=handler.request_streaming)
        return make(begun, None, handler.response_serializer)

    def _after_check(
        self, endpoint: Endpoint, behavior: Callable[..., Any], read: Callable[[bytes], Any], *, several: bool
    ) -> Callable[..., Any]:
        """Make a behavior that checks the key first."""

        # gRPC reads attributes of the behavior: whether it blocks, and which threads it has.
        @wraps(behavior)
        def checked(arriving: Iterator[bytes], context: Any, *more: Any) -> Any:
            call = self._pipeline.call(endpoint, GrpcCaller(context))
            context.set_trailing_metadata(call.trace.reply_headers())
            try:
                self._pipeline.check_key(call)
                if several:
                    return behavior(self._messages(endpoint, arriving, context, read), context, *more)
                data = receive(self._pipeline, arriving, context, keyless=endpoint.open)
                request = read_message(read, data)
            except StatusError as error:
                context.abort(error.code, error.message)
                raise  # `abort` does not return.
            return behavior(request, context, *more)

        vars(checked)["experimental_thread_pool"] = self._pool
        return checked

    def _messages(
        self, endpoint: Endpoint, arriving: Iterator[bytes], context: Any, read: Callable[[bytes], Any]
    ) -> Iterator[Any]:
        """Yield the messages of a call until its caller sends no more, or is silent for too long."""
        while True:
            try:
                data = receive(self._pipeline, arriving, context, keyless=endpoint.open)
                yield read_message(read, data)
            except StatusError:
                return
