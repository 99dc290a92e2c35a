"""The gRPC server: ports, channel arguments, health, and how it ends."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from serval_serving.server.grpc_watch import GrpcWatch, health_check
from serval_serving.server.library_services import LibraryServices
from serval_serving.server.pipeline import Pipeline
from serval_serving.server.receipts import ROOMS
from serval_serving.server.request_timing import WorkerPool
from serval_serving.server.sockets import close_port, open_connections
from serval_serving.server.tls import Tls
from serval_serving.wire import rpc
from serval_serving.wire.descriptors import descriptor_set
from serval_serving.wire.status import StatusError

HEALTH_NAMES = (
    "",
    rpc.PREDICTION_SERVICE,
    rpc.MODEL_SERVICE,
    rpc.PREDICTION_SERVICE.rpartition(".")[2],
    rpc.MODEL_SERVICE.rpartition(".")[2],
)
"""Names that health checks know: the full ones, and the short ones that TensorFlow Serving uses."""

_QUEUED_CALLS = 4096
"""Calls that wait for a thread. More are refused with RESOURCE_EXHAUSTED."""
_HEALTH_THREADS = 8
_CANCEL_SECONDS = 1.0
_FAREWELL_SPARE_SECONDS = 0.5
_STEP_SECONDS = 0.02
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GrpcOptions:
    """How the gRPC server listens.

    Attributes
    ----------
    port:
        TCP port, on all addresses; 0 for none.
    threads:
        RPCs handled at once.
    rooms:
        Further RPCs whose messages may be arriving.
    streams:
        RPCs at once on one connection.
    max_message_bytes:
        Largest request.
    max_connection_age_seconds:
        Seconds after which a connection is told to go elsewhere; 0 for never.
    drain_seconds:
        Seconds that calls in progress have to finish once the server drains.
    arguments:
        Further channel arguments; they win over those set here.
    socket_path:
        Unix socket to listen on too; empty for none.
    reflection:
        Whether the server tells callers its API.
    """

    port: int
    threads: int
    rooms: int = ROOMS
    streams: int = 100
    max_message_bytes: int = 128 * 1024 * 1024
    max_connection_age_seconds: float = 0.0
    drain_seconds: float = 30.0
    arguments: tuple[tuple[str, int | str], ...] = ()
    socket_path: str = ""
    reflection: bool = False


class GrpcServer:
    """A gRPC server with the predict API and health checks.

    Parameters
    ----------
    handlers:
        What answers.
    options:
        How to listen.
    pipeline:
        Takes health checks and reflection through the check of keys.
    tls:
        Certificates of the port; None for clear text.
    """

    def __init__(
        self,
        handlers: Sequence[grpc.GenericRpcHandler],
        options: GrpcOptions,
        pipeline: Pipeline,
        tls: Tls | None = None,
    ) -> None:
        self._tls = tls
        # grpcio keeps a thread for every call that has begun, also while its message is arriving.
        threads = options.threads + options.rooms
        self._pool = WorkerPool(threads, "grpc")
        self._server = grpc.server(
            self._pool, options=_arguments(options), maximum_concurrent_rpcs=threads + _QUEUED_CALLS
        )
        self._health = health.HealthServicer()
        # Health checks are answered while all other threads are busy.
        services = LibraryServices(pipeline, WorkerPool(options.rooms + _HEALTH_THREADS, "grpc-health"))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, services)
        if options.reflection:
            names = (rpc.PREDICTION_SERVICE, rpc.MODEL_SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, services, _described())
        self._server.add_generic_rpc_handlers((*handlers, services))
        self._options = options
        address = _own_address(options, tls)
        self._channel = grpc.insecure_channel(address) if address else None
        self._watch = GrpcWatch(
            self._pool,
            health_check(self._channel) if self._channel is not None else _unasked,
            lambda: close_port(options.port) if options.port else 0,
        )

    @property
    def alive(self) -> bool:
        """Whether it is not stuck."""
        return not self._watch.stuck

    def start(self, *, serving: bool = True) -> None:
        """Open the port and the socket; `serving` is what health checks say at first.

        Raises
        ------
        StatusError
            UNAVAILABLE: one of them cannot be had.
        """
        options = self._options
        if options.port:
            # One socket for IPv6 and IPv4; where there is no IPv6 gRPC takes IPv4 alone.
            self._listen(f"[::]:{options.port}", self._tls)
        if options.socket_path:
            # Whoever may open the file is on this machine: there is nothing to encrypt.
            self._listen(f"unix:{options.socket_path}", None)
        self.report(serving=serving)
        self._server.start()
        self._watch.start()

    def report(self, *, serving: bool) -> None:
        """Say by the health checks whether predictions are answered; a server that drains says no anyway."""
        states = health_pb2.HealthCheckResponse
        for name in HEALTH_NAMES:
            self._health.set(name, states.SERVING if serving else states.NOT_SERVING)

    def _listen(self, address: str, tls: Tls | None) -> None:
        """Open one address."""
        try:
            if tls is None:
                bound = self._server.add_insecure_port(address)
            else:
                bound = self._server.add_secure_port(address, tls.grpc_credentials())
        except RuntimeError:
            bound = 0
        if bound == 0:
            raise StatusError(grpc.StatusCode.UNAVAILABLE, f"gRPC cannot listen on {address}")

    def drain(self) -> Callable[[], None]:
        """Report NOT_SERVING, close the port, and let clients leave.

        Returns at once; the function returned waits until all of them left and all calls ended, or until the
        time is over and the rest are cancelled.

        gRPC tells clients to go when it stops a server, but it cancels the calls that were on their way. So
        the server runs on until every connection reached its age, when clients leave without a loss.
        """
        started = time.monotonic()
        self._watch.stop()
        if self._channel is not None:
            self._channel.close()
        self._health.enter_graceful_shutdown()
        if self._options.port:
            close_port(self._options.port)
        if self._options.socket_path:
            Path(self._options.socket_path).unlink(missing_ok=True)

        def wait() -> None:
            self._wait_for_clients(started + self._farewell_seconds())
            left = started + self._options.drain_seconds - time.monotonic()
            if not self._server.stop(max(0.0, left)).wait(max(0.0, left) + _CANCEL_SECONDS):
                _log.warning("gRPC calls were cut off: they did not end in time")
            self._pool.shutdown(wait=False)

        return wait

    def _farewell_seconds(self) -> float:
        """Say how long it takes until every connection has reached its age; gRPC varies it by a tenth."""
        age = self._options.max_connection_age_seconds
        return min(age * 1.1 + _FAREWELL_SPARE_SECONDS if age > 0 else 0.0, self._options.drain_seconds)

    def _wait_for_clients(self, end: float) -> None:
        """Wait until no connection is open, at most until a moment."""
        while time.monotonic() < end and self._options.port and open_connections(self._options.port):
            time.sleep(_STEP_SECONDS)


def _own_address(options: GrpcOptions, tls: Tls | None) -> str:
    """Say where the server can check its own health; empty for nowhere, as it has no certificate to show."""
    if options.socket_path:
        return f"unix:{options.socket_path}"
    return f"127.0.0.1:{options.port}" if tls is None else ""


def _unasked(_seconds: float) -> bool:
    """Stand in for a health check that cannot be made."""
    return True


def _described() -> DescriptorPool:
    """Build a pool for reflection: the predict API and the services of gRPC itself."""
    pool = DescriptorPool()
    known = [health_pb2.DESCRIPTOR.serialized_pb, reflection_pb2.DESCRIPTOR.serialized_pb]
    for file in (*known, *(file.SerializeToString() for file in descriptor_set().file)):
        pool.AddSerializedFile(file)
    return pool


def _arguments(options: GrpcOptions) -> list[tuple[str, int | str]]:
    """Make the channel arguments."""
    arguments: dict[str, int | str] = {
        "grpc.max_receive_message_length": options.max_message_bytes or -1,
        "grpc.max_send_message_length": -1,
        "grpc.max_concurrent_streams": options.streams,
        # Two servers on one port would share its connections without a word.
        "grpc.so_reuseport": 0,
        # Clients may ping as often as they like, also between calls.
        "grpc.keepalive_permit_without_calls": 1,
        "grpc.http2.min_recv_ping_interval_without_data_ms": 1000,
        "grpc.http2.max_ping_strikes": 0,
    }
    if options.max_connection_age_seconds > 0:
        arguments["grpc.max_connection_age_ms"] = int(options.max_connection_age_seconds * 1000)
    arguments.update(options.arguments)
    return list(arguments.items())
