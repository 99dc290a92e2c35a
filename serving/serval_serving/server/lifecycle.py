"""From flags to a running server, and from SIGTERM to its end."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from serval_serving.engines.base import Engine
from serval_serving.models.manager import LoadSettings, ModelManager
from serval_serving.server.grpc_service import GrpcOptions, GrpcServer
from serval_serving.server.http_app import HttpOptions
from serval_serving.server.http_server import HttpServer
from serval_serving.server.inference import Inference
from serval_serving.server.metrics import Metrics
from serval_serving.server.monitoring import metrics_path
from serval_serving.server.settings import Settings

_THREADS_PER_CPU = 4
_SPARE_THREADS = 8
_log = logging.getLogger(__name__)


class ModelServer:
    """One model, its gRPC server and its HTTP server.

    Parameters
    ----------
    settings:
        What the flags say.
    engine:
        Loads and runs the model.
    cpus:
        CPUs that this process may use.
    """

    def __init__(self, settings: Settings, engine: Engine, cpus: int) -> None:
        self._settings = settings
        self._stopped = threading.Event()
        load = LoadSettings(
            poll_seconds=settings.file_system_poll_wait_seconds,
            max_retries=settings.max_num_load_retries,
            retry_seconds=settings.load_retry_interval_micros / 1e6,
        )
        base_path = settings.model_base_path or Path()
        self._manager = ModelManager(settings.model_name, base_path, engine, load)
        inference = Inference(
            {settings.model_name: self._manager},
            Metrics(),
            engine_threads=settings.engine_threads or cpus,
            max_concurrent=settings.max_concurrent_requests,
        )
        self._grpc = GrpcServer(inference, _grpc_options(settings, cpus)) if settings.port else None
        self._http = HttpServer(inference, _http_options(settings, cpus)) if settings.rest_api_port else None

    def stop(self) -> None:
        """Ask `run` to end. May be called from a signal handler."""
        self._stopped.set()

    def run(self) -> None:
        """Load the model, open the ports, serve until stopped, and drain.

        Raises
        ------
        StatusError
            The model cannot be loaded, or a port cannot be had.
        """
        self._manager.start()
        self._manager.wait_available(self._stopped)
        if self._stopped.is_set():
            return
        for server in (self._grpc, self._http):
            if server is not None:
                server.start()
        settings = self._settings
        _log.info(
            "serving model=%s versions=%s grpc_port=%d http_port=%d",
            settings.model_name,
            self._manager.available(),
            settings.port,
            settings.rest_api_port,
        )
        self._stopped.wait()
        self._drain()

    def _drain(self) -> None:
        """Take no more requests and let those in progress end."""
        _log.info("draining for up to %g seconds", self._settings.drain_seconds)
        started = time.monotonic()
        waits: list[Callable[[], None]] = [
            server.drain() for server in (self._grpc, self._http) if server is not None
        ]
        for wait in waits:
            wait()
        self._manager.stop()
        _log.info("drained seconds=%.3f", time.monotonic() - started)


def _grpc_options(settings: Settings, cpus: int) -> GrpcOptions:
    """Derive the options of the gRPC server."""
    threads = settings.grpc_max_threads or _THREADS_PER_CPU * cpus
    return GrpcOptions(
        port=settings.port,
        threads=_with_room(threads, settings.max_concurrent_requests),
        max_connection_age_seconds=settings.max_connection_age_seconds,
        drain_seconds=settings.drain_seconds,
        arguments=settings.grpc_channel_arguments,
    )


def _http_options(settings: Settings, cpus: int) -> HttpOptions:
    """Derive the options of the HTTP server."""
    threads = settings.rest_api_num_threads or _THREADS_PER_CPU * cpus
    return HttpOptions(
        port=settings.rest_api_port,
        threads=_with_room(threads, settings.max_concurrent_requests),
        timeout_seconds=settings.rest_api_timeout_in_ms / 1000 or None,
        max_body_bytes=settings.rest_api_max_body_bytes,
        max_connection_age_seconds=settings.max_connection_age_seconds,
        metrics_path=metrics_path(settings.monitoring_config_file),
        scoring=settings.enable_scoring,
        scoring_output=settings.scoring_output,
        drain_seconds=settings.drain_seconds,
    )


def _with_room(threads: int, max_concurrent: int) -> int:
    """Have a thread for each admitted request and some more, so that the rest are refused at once."""
    return max(threads, max_concurrent + _SPARE_THREADS if max_concurrent else 0)
