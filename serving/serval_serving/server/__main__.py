"""The model server's process: `python -m serval_serving.server`."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

from serval_contract.startup import START_FAILED
from serval_serving.devices.base import DeviceSettings
from serval_serving.devices.choice import environment_lock_dir, environment_units
from serval_serving.engines.accelerated import AcceleratedEngine, AcceleratedOptions
from serval_serving.engines.base import Engine, Loader
from serval_serving.engines.onnx import OnnxEngine, OnnxOptions
from serval_serving.engines.registry import EngineEntry, EngineRegistry
from serval_serving.engines.tensorflow import SessionOptions, TensorFlowEngine
from serval_serving.models.formats import ARTIFACT_FORMAT, FORMATS, ONNX_FORMAT, SAVED_MODEL_FORMAT
from serval_serving.proxy.proxy_server import ProxyServer
from serval_serving.server import access, flags, logs
from serval_serving.server.cpus import usable_cpus
from serval_serving.server.lifecycle import ModelServer
from serval_serving.server.memory import keep_freed
from serval_serving.server.settings import Settings
from serval_serving.wire.status import StatusError

FAILED = f"{START_FAILED}. Error: {{error}}"
EXIT_FAILED = 255
"""TensorFlow Serving's exit code for a server that cannot start."""

SWITCH_SECONDS = 0.0001
"""How long a thread computes in Python while others wait. Python's default of 5 ms is longer than a small
request takes, and each request waits several times."""

# `python -m` gives this module another name.
_log = logging.getLogger("serval_serving.server")

MakeLoader = Callable[[Settings, int], Loader]
"""Makes what loads models, given the settings and the number of CPUs."""


def engines(settings: Settings, cpus: int) -> Loader:
    """Make the registry of engines.

    A folder with files of several formats is loaded as the first of `FORMATS`, which the fetcher knows too.
    A server with a device takes artifacts alone: any other folder is refused as one, also an empty one.
    """
    makers = {
        ARTIFACT_FORMAT: accelerated_engine,
        SAVED_MODEL_FORMAT: tensorflow_engine,
        ONNX_FORMAT: onnx_engine,
    }
    formats = (ARTIFACT_FORMAT,) if settings.device_engine else FORMATS
    return EngineRegistry(
        EngineEntry(
            one.models,
            -place,
            _any_folder if settings.device_engine else one.fits,
            partial(makers[one], settings, cpus),
        )
        for place, one in enumerate(formats)
    )


def tensorflow_engine(settings: Settings, cpus: int) -> Engine:
    """Make the engine for SavedModels; TensorFlow is imported here."""
    both = settings.tensorflow_session_parallelism or cpus
    return TensorFlowEngine(
        SessionOptions(
            tags=settings.saved_model_tags,
            intra_op_threads=settings.tensorflow_intra_op_parallelism or both,
            inter_op_threads=settings.tensorflow_inter_op_parallelism or both,
            gpu_memory_fraction=settings.per_process_gpu_memory_fraction,
            slots=settings.engine_threads or cpus,
        )
    )


def onnx_engine(settings: Settings, cpus: int) -> Engine:
    """Make the engine for ONNX models; ONNX Runtime is imported here."""
    both = settings.tensorflow_session_parallelism
    return OnnxEngine(
        OnnxOptions(
            providers=settings.onnx_providers,
            intra_op_threads=settings.tensorflow_intra_op_parallelism or both or cpus,
            inter_op_threads=settings.tensorflow_inter_op_parallelism or both,
            slots=settings.engine_threads or cpus,
        )
    )


def accelerated_engine(settings: Settings, cpus: int) -> Engine:
    """Make the engine for artifacts of AcceleratedModels; the device is opened here."""
    threads = settings.tensorflow_intra_op_parallelism or settings.tensorflow_session_parallelism or cpus
    device = DeviceSettings(
        options=json.loads(settings.device_options or "{}"),
        lock_dir=settings.device_lock_dir or environment_lock_dir(),
        units=environment_units(),
        holder=access.POD,
        resource=settings.device_resource,
        allow_emulation=settings.device_allow_emulation,
        threads=threads,
    )
    slots = settings.engine_threads or cpus
    return AcceleratedEngine(AcceleratedOptions(settings.device_engine, device, threads, slots))


def _any_folder(_path: Path) -> bool:
    """Take every folder of a version."""
    return True


def main(arguments: Sequence[str] | None = None, make_loader: MakeLoader = engines) -> NoReturn:
    """Run the server until SIGTERM or SIGINT, and end the process.

    Parameters
    ----------
    arguments:
        The command line without the program's name; by default that of the process.
    make_loader:
        Makes what loads models.
    """
    try:
        line = flags.parse(sys.argv[1:] if arguments is None else arguments)
    except flags.FlagError as error:
        _say(flags.usage())
        _end(EXIT_FAILED, FAILED.format(error=error))
    if line.version:
        sys.stdout.write(f"serval-model-server {version('serval')}\n")
        sys.stdout.flush()
        _end(0)
    keep_freed()
    sys.setswitchinterval(SWITCH_SECONDS)
    logs.set_up(access=line.settings.access_log)
    _report(line)
    try:
        _serve(line.settings, make_loader)
    except (StatusError, flags.FlagError) as error:
        _end(EXIT_FAILED, FAILED.format(error=error))
    _end(0)


def _serve(settings: Settings, make_loader: MakeLoader) -> None:
    """Make the server, and run it until a signal comes."""
    cpus = usable_cpus()
    _log.info("cpus=%d", cpus)
    server: ModelServer | ProxyServer
    if settings.upstream:
        server = ProxyServer(settings)
    else:
        server = ModelServer(settings, make_loader(settings, cpus), cpus)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    server.run()


def _report(line: flags.CommandLine) -> None:
    """Say which arguments have no effect."""
    if line.unknown:
        _say(flags.usage())
        _log.warning("unknown arguments: %s", " ".join(line.unknown))
    if line.ignored:
        _log.info("flags without effect in this server: %s", " ".join(f"--{name}" for name in line.ignored))


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _end(code: int, last_words: str = "") -> NoReturn:
    """End the process at once: threads of the engine may be in C++ code that cannot be joined.

    The last line of stderr becomes the container's termination message, so the words are one line.
    """
    logging.shutdown()
    sys.stdout.flush()
    if last_words:
        _say(" ".join(last_words.split()))
    os._exit(code)


if __name__ == "__main__":
    main()
