"""The ports of one server: how the flags say to listen, and how both end together."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

import grpc

from serval_serving.server.batch_settings import BatchSettings
from serval_serving.server.grpc_service import GrpcOptions, GrpcServer
from serval_serving.server.http_app import HttpOptions
from serval_serving.server.http_server import HttpServer, MakeApp
from serval_serving.server.memory import MemoryGuard, memory_limit
from serval_serving.server.monitoring import metrics_path
from serval_serving.server.pipeline import Pipeline
from serval_serving.server.receipts import Receipts
from serval_serving.server.settings import Settings
from serval_serving.server.tls import Tls

GRPC_THREADS: Final = 64
"""RPCs handled at once, for any number of CPUs: the engines limit how many of them compute."""
MOST_BATCH_THREADS: Final = 512
"""Each request in a batch has a thread."""
_SPARE_THREADS = 8
_STREAMS = 100
_log = logging.getLogger(__name__)


class Ports:
    """The gRPC and the HTTP port.

    Parameters
    ----------
    settings:
        What the flags say.
    threads:
        Threads of HTTP, where no flag says how many.
    batch_threads:
        Requests that fill the batches; 0 without batching.
    handlers:
        What answers gRPC.
    pipeline:
        Takes the calls that the gRPC server answers itself through the common steps.
    make_app:
        Makes what answers HTTP.

    Raises
    ------
    FlagError
        A configuration file or a certificate cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        threads: int,
        batch_threads: int,
        handlers: Sequence[grpc.GenericRpcHandler],
        pipeline: Pipeline,
        make_app: MakeApp,
    ) -> None:
        self._settings = settings
        tls = Tls(settings.ssl_config_file) if settings.ssl_config_file else None
        grpc_options = _grpc_options(settings, batch_threads)
        self._receipts = pipeline.receipts
        listens = grpc_options.port or grpc_options.socket_path
        self._grpc = GrpcServer(handlers, grpc_options, pipeline, tls) if listens else None
        http_options = _http_options(settings, max(threads, batch_threads), self._alive)
        http_tls = tls if settings.rest_api_tls else None
        self._http = HttpServer(make_app, http_options, http_tls) if http_options.port else None

    def open(self, *, serving: bool = True) -> None:
        """Open the ports; `serving` is what gRPC's health checks say at first.

        Raises
        ------
        StatusError
            UNAVAILABLE: one of them cannot be had.
        """
        self._receipts.start()
        if self._grpc is not None:
            self._grpc.start(serving=serving)
        if self._http is not None:
            self._http.start()
        _log.info("ready grpc_port=%d http_port=%d", self._settings.port, self._settings.rest_api_port)

    def _alive(self) -> bool:
        """Whether gRPC is not stuck."""
        return self._grpc is None or self._grpc.alive

    def report(self, *, serving: bool) -> None:
        """Say by gRPC's health checks whether predictions are answered."""
        if self._grpc is not None:
            self._grpc.report(serving=serving)

    def drain(self) -> float:
        """Take no more requests and let those in progress end; the answer is how many seconds that took."""
        _log.info("draining for up to %g seconds", self._settings.drain_seconds)
        started = time.monotonic()
        self._receipts.drain(self._settings.drain_seconds)
        waits: list[Callable[[], None]] = [
            server.drain() for server in (self._grpc, self._http) if server is not None
        ]
        for wait in waits:
            wait()
        self._receipts.stop()
        return time.monotonic() - started


def batch_threads(batches: BatchSettings | None) -> int:
    """Say how many requests of one row fill the batches that run and those that wait; 0 without batches."""
    return 0 if batches is None else min(2 * batches.max_execution_size * batches.threads, MOST_BATCH_THREADS)


def receipts(settings: Settings, batch_threads: int) -> Receipts:
    """Make what limits the messages that are arriving."""
    memory = MemoryGuard(settings.memory_limit_bytes or memory_limit())
    return Receipts(memory, _grpc_options(settings, batch_threads).rooms)


def _grpc_options(settings: Settings, batch_threads: int) -> GrpcOptions:
    """Derive the options of the gRPC server."""
    asked = settings.grpc_max_threads or max(GRPC_THREADS, batch_threads)
    threads = _with_room(asked, settings.max_concurrent_requests)
    streams = max(_STREAMS, threads)
    return GrpcOptions(
        port=settings.port,
        threads=threads,
        # More than one connection has, so that one cannot take them all.
        rooms=streams * 5 // 4,
        streams=streams,
        max_message_bytes=settings.grpc_max_message_bytes,
        max_connection_age_seconds=settings.max_connection_age_seconds,
        drain_seconds=settings.drain_seconds,
        arguments=settings.grpc_channel_arguments,
        socket_path=settings.grpc_socket_path,
        reflection=settings.enable_reflection,
    )


def _http_options(settings: Settings, threads: int, alive: Callable[[], bool]) -> HttpOptions:
    """Derive the options of the HTTP server."""
    return HttpOptions(
        port=settings.rest_api_port,
        threads=_with_room(settings.rest_api_num_threads or threads, settings.max_concurrent_requests),
        timeout_seconds=settings.rest_api_timeout_in_ms / 1000 or None,
        max_body_bytes=settings.rest_api_max_body_bytes,
        max_connection_age_seconds=settings.max_connection_age_seconds,
        metrics_path=metrics_path(settings.monitoring_config_file),
        scoring=settings.enable_scoring,
        scoring_output=settings.scoring_output,
        drain_seconds=settings.drain_seconds,
        cors=settings.rest_api_enable_cors_support or settings.enable_cors_support,
        alive=alive,
    )


def _with_room(threads: int, max_concurrent: int) -> int:
    """Have a thread for each admitted request and some more, so that the rest are refused at once."""
    return max(threads, max_concurrent + _SPARE_THREADS if max_concurrent else 0)
