"""Runs a benchmark by name: ``python -m benchmarks status-latency``; without a name, all of them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# The tests' helpers and the lab are not installed; they lie beside.
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "lab")]

from benchmarks import at_rest, status_latency  # noqa: E402

BENCHMARKS: dict[str, Callable[[], None]] = {
    "status-latency": status_latency.main,
    "at-rest": at_rest.main,
}


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of: {', '.join(BENCHMARKS)}")
    wanted = parser.parse_args().names or list(BENCHMARKS)
    unknown = [name for name in wanted if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    for name in wanted:
        print(f"== {name}", flush=True)
        BENCHMARKS[name]()


main()
