"""Entry point of the operator: reads its configuration, and runs its process.

Exit status: 0 after SIGTERM or SIGINT, 1 when a part failed, 2 when the configuration cannot be used.
"""

from __future__ import annotations

import os
import signal

if __name__ == "__main__":
    # Before the other imports, which take a second: the kernel gives process 1 of a container no signal that
    # it does not handle. Nothing has begun, so nothing has to be ended. The operator replaces these handlers.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))

import argparse
import asyncio
import gc
import logging
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

import uvloop
from prometheus_client import disable_created_metrics

from serval_operator import logs
from serval_operator.config import Configuration, load_configuration
from serval_operator.errors import ConfigurationError, ServalError
from serval_operator.manager import Operator
from serval_operator.registry import selected
from serval_operator.runtime.authentication import load_connection
from serval_operator.settings import Settings

EXIT_OK, EXIT_FAILED, EXIT_CONFIGURATION = 0, 1, 2
DISTRIBUTION = "serval"

_log = logging.getLogger("serval_operator")


async def serve(settings: Settings, configuration: Configuration) -> int:
    """Run the operator; returns the exit status."""
    try:
        connection = await asyncio.to_thread(load_connection, settings.kubeconfig)
        await Operator(settings, configuration, connection).run()
    except ConfigurationError as error:
        _log.critical("%s", error)
        return EXIT_CONFIGURATION
    except ServalError as error:
        _log.critical("ends: %s", error)
        return EXIT_FAILED
    except Exception:  # noqa: BLE001 - the last to see it, and it ends the process
        _log.critical("ends: a part of the operator failed", exc_info=True)
        return EXIT_FAILED
    _log.info("stopped")
    return EXIT_OK


def main(arguments: Sequence[str] | None = None, env: Mapping[str, str] | None = None) -> int:
    """Run the program; returns the exit status where the operator did not run, else ends the process."""
    asked = _parser().parse_args(arguments)
    try:
        settings = Settings.from_environment(os.environ if env is None else env)
        selected(settings.kinds)
        configuration = load_configuration(settings.config_file)
    except ConfigurationError as error:
        sys.stderr.write(f"serval-operator: {error}\n")
        return EXIT_CONFIGURATION
    if asked.check_config:
        sys.stdout.write(f"{settings.config_file}: ok\n")
        return EXIT_OK
    disable_created_metrics()  # type: ignore[no-untyped-call]
    logs.configure(settings.log_level, settings.log_format)
    _tune_collector()
    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    status = runner.run(serve(settings, configuration))
    left = asyncio.all_tasks(runner.get_loop())
    if left:
        _log.error("did not end in time: %s", ", ".join(sorted(task.get_name() for task in left)))
    logging.shutdown()
    # Closing the loop and the interpreter would wait without a limit: for tasks of kopf that refuse to be
    # cancelled, and for threads, such as one that reads the credentials.
    os._exit(status)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="serval-operator",
        description="Runs the Serval operator. Settings are environment variables, SERVAL_*.",
    )
    parser.add_argument("--version", action="version", version=f"serval-operator {_version()}")
    parser.add_argument(
        "--check-config", action="store_true", help="check settings and configuration file, then end"
    )
    return parser


def _version() -> str:
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "(not installed)"


def _tune_collector() -> None:
    """Spare the garbage collector what lives for ever, and let it look less often.

    Nearly everything here is freed by its reference count. Measured, this takes a quarter off the CPU of an
    event.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)


if __name__ == "__main__":
    sys.exit(main())
