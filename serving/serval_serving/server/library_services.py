"""Health checks and reflection: services of gRPC's libraries, behind the pipeline's check of keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial, wraps
from typing import Any, Final

import grpc

from serval_serving.server.grpc_calls import GrpcCaller
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

_BEHAVIORS: Final = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


class LibraryServices(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Answers the methods of the table; all others are UNIMPLEMENTED, whatever a library registers.

    Stands in for the server in the registration functions of the libraries.

    Parameters
    ----------
    pipeline:
        Checks the keys of methods that are not open.
    endpoints:
        The table, by path.
    """

    def __init__(self, pipeline: Pipeline, endpoints: Mapping[str, Endpoint] = ENDPOINTS) -> None:
        self._pipeline = pipeline
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
        """Put the check of keys before what handles a method."""
        (kind,) = (kind for kind in _BEHAVIORS if getattr(handler, kind) is not None)
        return handler._replace(**{kind: self._after_check(endpoint, getattr(handler, kind))})

    def _after_check(self, endpoint: Endpoint, behavior: Callable[..., Any]) -> Callable[..., Any]:
        """Make a behavior that checks the key first."""

        # gRPC reads attributes of the behavior: whether it blocks.
        @wraps(behavior)
        def checked(request: Any, context: Any, *more: Any) -> Any:
            try:
                self._pipeline.check_key(self._pipeline.call(endpoint, GrpcCaller(context)))
            except StatusError as error:
                context.abort(error.code, error.message)
            return behavior(request, context, *more)

        return checked
