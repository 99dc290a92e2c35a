"""Runs a benchmark: ``python -m benchmarks NAME [its options]``; without a name, each that only measures."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# The tests' helpers and the lab are not installed; they lie beside.
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "lab")]

from benchmarks import at_rest, batches, failures, hostile, parsing, request_modules, status_latency  # noqa: E402
from benchmarks.crowd import command as crowd_command  # noqa: E402
from benchmarks.operator import command as operator_command  # noqa: E402
from benchmarks.operator import kinds  # noqa: E402

BENCHMARKS: dict[str, Callable[[Sequence[str]], None]] = {
    "status-latency": status_latency.main,
    "at-rest": at_rest.main,
    "parsing": parsing.main,
    "operator": operator_command.main,
    "kinds": kinds.main,
    "failures": failures.main,
    "request-modules": request_modules.main,
    "crowd": crowd_command.main,
    "hostile": hostile.main,
    "batches": batches.main,
}
ONLY_BY_NAME = ("failures", "kinds", "crowd")
"""Making failures on real nodes needs root, and a quarter of an hour; so many objects take as long. A large
cluster takes some minutes and 2 GB of memory."""


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = list(BENCHMARKS)
    parser.add_argument("name", nargs="?", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("options", nargs=argparse.REMAINDER, help="see: python -m benchmarks NAME --help")
    told = parser.parse_args()
    for name in [told.name] if told.name else [one for one in names if one not in ONLY_BY_NAME]:
        print(f"== {name}", flush=True)
        BENCHMARKS[name](told.options if told.name else ())


main()
