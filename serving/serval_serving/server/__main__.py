"""The model server's process: `python -m serval_serving.server`."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import NoReturn

from serval_serving.engines.base import Engine
from serval_serving.engines.tensorflow import SessionOptions, TensorFlowEngine
from serval_serving.server import flags, logs
from serval_serving.server.cpus import usable_cpus
from serval_serving.server.lifecycle import ModelServer
from serval_serving.server.settings import Settings
from serval_serving.wire.status import StatusError

FAILED = "Failed to start server. Error: {error}"
EXIT_FAILED = 255
"""TensorFlow Serving's exit code for a server that cannot start."""

# `python -m` gives this module another name.
_log = logging.getLogger("serval_serving.server")

MakeEngine = Callable[[Settings, int], Engine]
"""Makes the engine, given the settings and the number of CPUs."""


def tensorflow_engine(settings: Settings, cpus: int) -> Engine:
    """Make the engine for SavedModels; TensorFlow is imported here."""
    both = settings.tensorflow_session_parallelism or cpus
    return TensorFlowEngine(
        SessionOptions(
            tags=settings.saved_model_tags,
            intra_op_threads=settings.tensorflow_intra_op_parallelism or both,
            inter_op_threads=settings.tensorflow_inter_op_parallelism or both,
            gpu_memory_fraction=settings.per_process_gpu_memory_fraction,
        )
    )


def main(arguments: Sequence[str] | None = None, make_engine: MakeEngine = tensorflow_engine) -> NoReturn:
    """Run the server until SIGTERM or SIGINT, and end the process.

    Parameters
    ----------
    arguments:
        The command line without the program's name; by default that of the process.
    make_engine:
        Makes the engine.
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
    logs.set_up()
    _report(line)
    try:
        _serve(line.settings, make_engine)
    except (StatusError, flags.FlagError, ImportError) as error:
        _end(EXIT_FAILED, FAILED.format(error=error))
    _end(0)


def _serve(settings: Settings, make_engine: MakeEngine) -> None:
    """Make the engine and the server, and run it until a signal comes."""
    cpus = usable_cpus()
    engine = make_engine(settings, cpus)
    _log.info("engine=%s cpus=%d devices=%s", engine.name, cpus, ",".join(engine.devices()))
    server = ModelServer(settings, engine, cpus)
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

    The last line of stderr becomes the container's termination message.
    """
    logging.shutdown()
    sys.stdout.flush()
    if last_words:
        _say(last_words)
    os._exit(code)


if __name__ == "__main__":
    main()
