"""From flags to a running server, and from SIGTERM to its end."""

from __future__ import annotations

import gc
import logging
import threading
from pathlib import Path

from serval_serving.engines.base import DeviceReport, Loader
from serval_serving.models.config import ModelConfig
from serval_serving.models.handle import ServableHandle
from serval_serving.models.load_settings import LoadSettings
from serval_serving.models.manager import ModelManager
from serval_serving.models.served_models import EarlyLabels, ServedModels
from serval_serving.server.batch_settings import BatchSettings, read_settings
from serval_serving.server.batching import Batching
from serval_serving.server.device_watch import DeviceWatch
from serval_serving.server.inference import Inference
from serval_serving.server.keys import Keys
from serval_serving.server.memory import Trimmer
from serval_serving.server.metrics import Metrics
from serval_serving.server.model_app import ModelApp
from serval_serving.server.pipeline import Pipeline
from serval_serving.server.ports import Ports, batch_threads, receipts
from serval_serving.server.reload import ConfigFileWatch, read_file
from serval_serving.server.sampling import sampler_of
from serval_serving.server.services import Services
from serval_serving.server.settings import Settings
from serval_serving.server.stop_signal import wait_for
from serval_serving.server.warmup import WarmUp

_THREADS_PER_CPU = 4
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
        self._is_open = False
        self._models = _models(settings)
        self._served = ServedModels(self._manager, _early_labels(settings))
        batches = read_settings(settings.batching_parameters_file, cpus) if settings.enable_batching else None
        for_batches = batch_threads(batches)
        inference = Inference(
            self._served,
            Metrics(self._devices, self._device_reports),
            max_concurrent=settings.max_concurrent_requests,
            checks_methods=settings.enable_signature_method_name_check,
            receipts=receipts(settings, for_batches),
        )
        self._batching = _batching(settings, batches, inference, cpus)
        self._sampler = sampler_of(settings, inference.metrics)
        if self._sampler is not None:
            inference.use_samples(self._sampler.take_run)
        self._warm_up = WarmUp(inference, settings.num_request_iterations_for_warmup)
        typed = not settings.enable_serialization_as_tensor_content
        keys = Keys(settings.auth_keys) if settings.auth_keys else None
        pipeline = Pipeline(inference, keys)
        services = Services(
            inference, self._served, pipeline, typed=typed, reloads=settings.enable_config_reload
        )
        self._trimmer = Trimmer(inference.metrics.in_flight)
        self._device_watch = DeviceWatch(self._served, lambda serving: self._ports.report(serving=serving))
        self._ports = Ports(
            settings,
            _THREADS_PER_CPU * cpus,
            for_batches,
            services.handlers(),
            pipeline,
            lambda options, pool: ModelApp(inference, pipeline, options, pool),
        )

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
        self._served.start(self._models, self._stopped.is_set, self._open_early)
        if self._stopped.is_set():
            if self._is_open:
                self._ports.drain()
            return
        _keep_for_good()
        if self._sampler is not None:
            self._sampler.start()
        if not self._is_open:
            self._ports.open()
        # A device may have become unhealthy since it was programmed.
        self._device_watch.look(changed_only=False)
        for name, manager in self._served.items():
            _log.info("serving model=%s versions=%s", name, manager.available())
        watch = self._config_watch()
        if watch is not None:
            watch.start()
        self._trimmer.start()
        wait_for(self._stopped)
        self._trimmer.stop()
        self._device_watch.stop()
        if watch is not None:
            watch.stop()
        seconds = self._ports.drain()
        if self._sampler is not None:
            self._sampler.stop()
        self._served.stop()
        _log.info("drained seconds=%.3f", seconds)

    def _open_early(self) -> None:
        """Open the ports while devices are being programmed, so that callers learn how far that is."""
        self._is_open = True
        self._ports.open(serving=False)

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
            for name, manager in self._served.items()
            for version, device in manager.devices().items()
        }

    def _device_reports(self) -> dict[tuple[str, str], DeviceReport]:
        """Say how the device is of every version that has one for itself."""
        return {
            (name, str(version)): report
            for name, manager in self._served.items()
            for version, report in manager.device_reports().items()
        }

    def _prepare(self, handle: ServableHandle) -> None:
        """Make a version that was just loaded ready to serve."""
        if handle.model.exclusive is not None:
            self._device_watch.start()
        if self._batching is not None:
            self._batching.prepare(handle)
        if self._settings.enable_model_warmup:
            self._warm_up(handle)

    def _config_watch(self) -> ConfigFileWatch | None:
        """Make what looks at the configuration file again, where that is wanted."""
        path, seconds = self._settings.model_config_file, self._settings.model_config_file_poll_wait_seconds
        return ConfigFileWatch(path, self._models, self._served, seconds) if path and seconds > 0 else None


def _keep_for_good() -> None:
    """Let the collector of reference cycles never again look at what there is before the first request.

    Modules and engines are some 100,000 objects. To go through them takes 50 ms, in which no thread runs.
    """
    gc.collect()
    gc.freeze()


def _models(settings: Settings) -> tuple[ModelConfig, ...]:
    """Say which models to serve: those of the configuration file, else the one of the flags."""
    if settings.model_config_file is not None:
        return read_file(settings.model_config_file)
    return (ModelConfig(settings.model_name, settings.model_base_path or Path()),)


def _batching(
    settings: Settings, batches: BatchSettings | None, inference: Inference, cpus: int
) -> Batching | None:
    """Let requests be batched, where that is wanted."""
    if batches is None:
        return None
    batching = Batching(
        batches,
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
