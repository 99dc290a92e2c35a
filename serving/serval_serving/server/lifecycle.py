"""From flags to a running server, and from SIGTERM to its end."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from serval_serving.engines.base import Loader
from serval_serving.models.config import ModelConfig
from serval_serving.models.fleet import EarlyLabels, Fleet
from serval_serving.models.manager import Lease, LoadSettings, ModelManager
from serval_serving.server.batch_settings import read_settings
from serval_serving.server.batching import Batching
from serval_serving.server.grpc_service import GrpcOptions, GrpcServer
from serval_serving.server.http_app import HttpOptions
from serval_serving.server.http_server import HttpServer
from serval_serving.server.inference import Inference
from serval_serving.server.keys import Keys
from serval_serving.server.metrics import Metrics
from serval_serving.server.monitoring import metrics_path
from serval_serving.server.reload import ConfigFileWatch, read_file
from serval_serving.server.services import Services
from serval_serving.server.settings import Settings
from serval_serving.server.tls import Tls
from serval_serving.server.warmup import WarmUp

_THREADS_PER_CPU = 4
_SPARE_THREADS = 8
_log = logging.getLogger(__name__)


class ModelServer:
    """The models, the gRPC server and the HTTP server.

    Parameters
    ----------
    settings:
        What the flags say.
    loader:
        Loads models.
    cpus:
        CPUs that this process may use.

    Raises
    ------
    FlagError, StatusError
        A configuration file, a key or a certificate cannot be used.
    """

    def __init__(self, settings: Settings, loader: Loader, cpus: int) -> None:
        self._settings = settings
        self._loader = loader
        self._stopped = threading.Event()
        self._models = _models(settings)
        self._fleet = Fleet(self._manager, _early_labels(settings))
        inference = Inference(
            self._fleet,
            Metrics(self._devices),
            engine_threads=settings.engine_threads or cpus,
            max_concurrent=settings.max_concurrent_requests,
            checks_methods=settings.enable_signature_method_name_check,
        )
        self._batching = _batching(settings, inference, cpus)
        self._warm_up = WarmUp(inference, settings.num_request_iterations_for_warmup)
        typed = not settings.enable_serialization_as_tensor_content
        keys = Keys(settings.auth_keys) if settings.auth_keys else None
        services = Services(inference, self._fleet, keys, typed=typed)
        grpc, http = _grpc_options(settings, cpus), _http_options(settings, cpus)
        tls = Tls(settings.ssl_config_file) if settings.ssl_config_file else None
        self._grpc = GrpcServer(services, grpc, tls) if grpc.port or grpc.socket_path else None
        http_tls = tls if settings.rest_api_tls else None
        self._http = HttpServer(inference, http, keys, http_tls) if http.port else None

    def stop(self) -> None:
        """Ask `run` to end. May be called from a signal handler."""
        self._stopped.set()

    def run(self) -> None:
        """Load the models, open the ports, serve until stopped, and drain.

        Raises
        ------
        StatusError
            A model cannot be loaded, or a port cannot be had.
        """
        settings = self._settings
        self._fleet.start(self._models, self._stopped.is_set)
        if self._stopped.is_set():
            return
        for server in (self._grpc, self._http):
            if server is not None:
                server.start()
        for name, manager in self._fleet.items():
            _log.info("serving model=%s versions=%s", name, manager.available())
        _log.info("ready grpc_port=%d http_port=%d", settings.port, settings.rest_api_port)
        watch = self._config_watch()
        if watch is not None:
            watch.start()
        self._stopped.wait()
        if watch is not None:
            watch.stop()
        self._drain()

    def _manager(self, config: ModelConfig) -> ModelManager:
        """Make the manager of one model."""
        settings = self._settings
        load = LoadSettings(
            poll_seconds=settings.file_system_poll_wait_seconds,
            max_retries=settings.max_num_load_retries,
            retry_seconds=settings.load_retry_interval_micros / 1e6,
        )
        name, path, policy = config.name, config.base_path, config.policy
        return ModelManager(name, path, self._loader, load, policy, prepare=self._prepare)

    def _devices(self) -> dict[tuple[str, ...], str]:
        """Say what every version that serves runs on."""
        return {
            (name, str(version)): device
            for name, manager in self._fleet.items()
            for version, device in manager.devices().items()
        }

    def _prepare(self, lease: Lease) -> None:
        """Make a version that was just loaded ready to serve."""
        if self._batching is not None:
            self._batching.prepare(lease)
        if self._settings.enable_model_warmup:
            self._warm_up(lease)

    def _config_watch(self) -> ConfigFileWatch | None:
        """Make what looks at the configuration file again, where that is wanted."""
        path, seconds = self._settings.model_config_file, self._settings.model_config_file_poll_wait_seconds
        return ConfigFileWatch(path, self._models, self._fleet, seconds) if path and seconds > 0 else None

    def _drain(self) -> None:
        """Take no more requests and let those in progress end."""
        _log.info("draining for up to %g seconds", self._settings.drain_seconds)
        started = time.monotonic()
        waits: list[Callable[[], None]] = [
            server.drain() for server in (self._grpc, self._http) if server is not None
        ]
        for wait in waits:
            wait()
        self._fleet.stop()
        _log.info("drained seconds=%.3f", time.monotonic() - started)


def _models(settings: Settings) -> tuple[ModelConfig, ...]:
    """Say which models to serve: those of the configuration file, else the one of the flags."""
    if settings.model_config_file is not None:
        return read_file(settings.model_config_file)
    return (ModelConfig(settings.model_name, settings.model_base_path or Path()),)


def _batching(settings: Settings, inference: Inference, cpus: int) -> Batching | None:
    """Let requests be batched, where that is wanted."""
    if not settings.enable_batching:
        return None
    batching = Batching(
        read_settings(settings.batching_parameters_file, cpus),
        inference.execute,
        inference.metrics,
        per_model=settings.enable_per_model_batching_parameters,
        cpus=cpus,
    )
    inference.use_batches(batching)
    return batching


def _early_labels(settings: Settings) -> EarlyLabels:
    """Say which labels may be given before a version serves."""
    if settings.force_allow_any_version_labels_for_unavailable_models:
        return EarlyLabels.ALL
    if settings.allow_version_labels_for_unavailable_models:
        return EarlyLabels.NEW
    return EarlyLabels.NONE


def _grpc_options(settings: Settings, cpus: int) -> GrpcOptions:
    """Derive the options of the gRPC server."""
    threads = settings.grpc_max_threads or _THREADS_PER_CPU * cpus
    return GrpcOptions(
        port=settings.port,
        threads=_with_room(threads, settings.max_concurrent_requests),
        max_connection_age_seconds=settings.max_connection_age_seconds,
        drain_seconds=settings.drain_seconds,
        arguments=settings.grpc_channel_arguments,
        socket_path=settings.grpc_socket_path,
        reflection=settings.enable_reflection,
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
        cors=settings.rest_api_enable_cors_support or settings.enable_cors_support,
    )


def _with_room(threads: int, max_concurrent: int) -> int:
    """Have a thread for each admitted request and some more, so that the rest are refused at once."""
    return max(threads, max_concurrent + _SPARE_THREADS if max_concurrent else 0)
