"""The ports of one server: how the flags say to listen, and how both end together."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

import grpc

from serval_serving.server.grpc_service import GrpcOptions, GrpcServer
from serval_serving.server.http_app import HttpOptions
from serval_serving.server.http_server import HttpServer, MakeApp
from serval_serving.server.monitoring import metrics_path
from serval_serving.server.pipeline import Pipeline
from serval_serving.server.settings import Settings
from serval_serving.server.tls import Tls

_SPARE_THREADS = 8
_log = logging.getLogger(__name__)


class Ports:
    """The gRPC and the HTTP port.

    Parameters
    ----------
    settings:
        What the flags say.
    threads:
        Threads of each protocol, where no flag says how many.
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
        handlers: Sequence[grpc.GenericRpcHandler],
        pipeline: Pipeline,
        make_app: MakeApp,
    ) -> None:
        self._settings = settings
        tls = Tls(settings.ssl_config_file) if settings.ssl_config_file else None
        grpc_options, http_options = _grpc_options(settings, threads), _http_options(settings, threads)
        listens = grpc_options.port or grpc_options.socket_path
        self._grpc = GrpcServer(handlers, grpc_options, pipeline, tls) if listens else None
        http_tls = tls if settings.rest_api_tls else None
        self._http = HttpServer(make_app, http_options, http_tls) if http_options.port else None

    def open(self) -> None:
        """Open the ports.

        Raises
        ------
        StatusError
            UNAVAILABLE: one of them cannot be had.
        """
        for server in (self._grpc, self._http):
            if server is not None:
                server.start()
        _log.info("ready grpc_port=%d http_port=%d", self._settings.port, self._settings.rest_api_port)

    def report(self, *, serving: bool) -> None:
        """Say by gRPC's health checks whether predictions are answered."""
        if self._grpc is not None:
            self._grpc.report(serving=serving)

    def drain(self) -> float:
        """Take no more requests and let those in progress end; the answer is how many seconds that took."""
        _log.info("draining for up to %g seconds", self._settings.drain_seconds)
        started = time.monotonic()
        waits: list[Callable[[], None]] = [
            server.drain() for server in (self._grpc, self._http) if server is not None
        ]
        for wait in waits:
            wait()
        return time.monotonic() - started


def _grpc_options(settings: Settings, threads: int) -> GrpcOptions:
    """Derive the options of the gRPC server."""
    return GrpcOptions(
        port=settings.port,
        threads=_with_room(settings.grpc_max_threads or threads, settings.max_concurrent_requests),
        max_connection_age_seconds=settings.max_connection_age_seconds,
        drain_seconds=settings.drain_seconds,
        arguments=settings.grpc_channel_arguments,
        socket_path=settings.grpc_socket_path,
        reflection=settings.enable_reflection,
    )


def _http_options(settings: Settings, threads: int) -> HttpOptions:
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
    )


def _with_room(threads: int, max_concurrent: int) -> int:
    """Have a thread for each admitted request and some more, so that the rest are refused at once."""
    return max(threads, max_concurrent + _SPARE_THREADS if max_concurrent else 0)
