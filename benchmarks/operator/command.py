"""``python -m benchmarks operator``: measures the operator, prints tables, and writes them into the docs."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.operator import measure
from benchmarks.operator.figures import Burst, Calm, Latency, Restart, Results
from benchmarks.operator.report import markdown
from benchmarks.pages import placed

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "build" / "benchmarks" / "operator.json"
DOCS = ROOT / "docs" / "measurements.md"
BEGIN, END = "<!-- benchmarks operator: begin -->", "<!-- benchmarks operator: end -->"
COUNTS = (300, 1000)


def main(arguments: Sequence[str] = ()) -> None:
    """Measure, print, keep the figures beside those of earlier runs, and write the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks operator", description=__doc__)
    text = "how many ModelDeployments are created at full speed (default: 300 1000)"
    parser.add_argument("--count", nargs="*", type=int, default=list(COUNTS), metavar="N", help=text)
    text = "how many a new operator finds, where no more than a namespace's were created (default: none)"
    parser.add_argument("--crowd", nargs="*", type=int, default=[], metavar="N", help=text)
    parser.add_argument("--no-calm", action="store_true", help="leave out the minute of one a second")
    parser.add_argument("--write", action="store_true", help=f"write the tables into {DOCS.name} too")
    options = parser.parse_args(arguments)
    results = load(KEPT)
    if not options.no_calm:
        print("one a second", flush=True)
        results = replace(results, calm=asyncio.run(measure.calm()))
        save(KEPT, results)
    for count in options.count:
        print(f"{count} at full speed", flush=True)
        burst = asyncio.run(measure.burst(count))
        results = replace(results, bursts={**results.bursts, str(count): burst})
        save(KEPT, results)
    for count in options.crowd:
        print(f"a new operator finds {count}", flush=True)
        results = replace(results, crowds={**results.crowds, str(count): asyncio.run(measure.crowd(count))})
        save(KEPT, results)
    text = markdown(results)
    print(text)
    if options.write:
        DOCS.write_text(placed(DOCS.read_text(), text, (BEGIN, END)))


def save(path: Path, results: Results) -> None:
    """Keep the figures."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(results), indent=1) + "\n")


def load(path: Path) -> Results:
    """Figures of earlier runs; none where there are none."""
    if not path.exists():
        return Results()
    data: dict[str, Any] = json.loads(path.read_text())
    calm = data["calm"] and Calm(**{key: Latency(**value) for key, value in data["calm"].items()})
    return Results(
        calm,
        {count: _burst(burst) for count, burst in data["bursts"].items()},
        {count: _restart(found) for count, found in data.get("crowds", {}).items()},
    )


def _burst(data: dict[str, Any]) -> Burst:
    latencies = {key: Latency(**data[key]) for key in ("deployment", "available_ready", "pod_ready")}
    restart = _restart(data["restart"])
    return Burst(**{**data, **latencies, "memory_mb": tuple(data["memory_mb"]), "restart": restart})


def _restart(data: dict[str, Any]) -> Restart:
    return Restart(**{**data, "memory_mb": tuple(data["memory_mb"])})
