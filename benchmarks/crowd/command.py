"""``python -m benchmarks crowd``: hundreds of objects wait for a device in a large cluster."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.crowd import verdict
from benchmarks.crowd.plane import NAMESPACE, Plane, Size, plane
from benchmarks.operator.audit import requests, tally
from benchmarks.operator.command import placed
from benchmarks.operator.processes import Spending
from benchmarks.operator.stage import OPERATOR_USER

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "build" / "benchmarks" / "crowd.json"
DOCS = ROOT / "docs" / "measurements.md"
MARKS = ("<!-- benchmarks crowd: begin -->", "<!-- benchmarks crowd: end -->")
SETTLED = 10.0
SETTLED_LIMIT = 240.0
"""Seconds without a write of the operator from which on all objects only wait, and when that is given up."""


@dataclass(frozen=True)
class Figures:
    """What was measured in one tree.

    Attributes
    ----------
    requests:
        Requests of the operator per second, by verb and resource; each page of a listing is one.
    cores:
        Cores that each process took.
    others_cores:
        Cores that other work of the machine took.
    verdict_ms:
        CPU time of one verdict; None where the tree is too old for that.
    reasons:
        How many objects give each reason at the end.
    """

    size: dict[str, int]
    seconds: float
    requests: dict[str, float]
    cores: dict[str, float]
    others_cores: float
    verdict_ms: float | None
    reasons: dict[str, int]


def main(arguments: Sequence[str] = ()) -> None:
    """Measure, print, keep the figures beside those of other trees, and write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks crowd", description=__doc__)
    text = "source tree of the operator (default: this one)"
    parser.add_argument("--tree", type=Path, default=ROOT, metavar="PATH", help=text)
    parser.add_argument("--label", default="now", help="column of the table (default: now)")
    parser.add_argument("--nodes", type=int, default=5000, metavar="N")
    text = "nodes that offer the device beside (default: 8)"
    parser.add_argument("--device-nodes", type=int, default=8, metavar="N", help=text)
    parser.add_argument("--pods", type=int, default=100_000, metavar="N")
    parser.add_argument("--waiting", type=int, default=600, metavar="N")
    parser.add_argument("--seconds", type=float, default=60.0, metavar="S")
    parser.add_argument("--write", action="store_true", help=f"write the table into {DOCS.name} too")
    options = parser.parse_args(arguments)
    size = Size(options.nodes, options.device_nodes, options.pods, options.waiting)
    found = {**_kept(), options.label: asdict(_measure(options.tree.resolve(), size, options.seconds))}
    KEPT.parent.mkdir(parents=True, exist_ok=True)
    KEPT.write_text(json.dumps(found, indent=1) + "\n")
    text = markdown({label: Figures(**figures) for label, figures in found.items()})
    print(text)
    if options.write:
        DOCS.write_text(placed(DOCS.read_text(), text, MARKS))


def _kept() -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    return found


def _measure(tree: Path, size: Size, seconds: float) -> Figures:
    judged = _verdict_ms(tree, size)
    began = time.time()
    with plane(tree, size) as made:
        print(f"filled after {time.time() - began:.0f} s", flush=True)
        made.start_operator()
        _settle(made)
        print(f"settled after {time.time() - began:.0f} s", flush=True)
        spending, began = Spending(made.pids()), time.time()
        # The time is what is measured, so this is no wait for a condition.
        time.sleep(seconds)
        used, others = spending.so_far()
        asked = requests(made.lab.audit_log, began, time.time())
        counted = tally([one for one in asked if one.user.startswith(OPERATOR_USER)])
        return Figures(
            size=asdict(size),
            seconds=seconds,
            requests={what: number / seconds for what, number in counted.most_common()},
            cores={name: spent / seconds for name, spent in used.items()},
            others_cores=others,
            verdict_ms=judged,
            reasons=dict(made.reasons()),
        )


def _settle(made: Plane) -> None:
    """Wait until the operator writes nothing to the copies any more."""
    end = time.time() + SETTLED_LIMIT
    while time.time() < end:
        time.sleep(SETTLED)
        now = time.time()
        found = requests(made.lab.audit_log, now - SETTLED, now)
        if not any(one.is_write and one.user.startswith(OPERATOR_USER) for one in found):
            return
    print(f"the operator still writes to {NAMESPACE}", flush=True)


def _verdict_ms(tree: Path, size: Size) -> float | None:
    sources = ":".join(str(tree / source) for source in ("contract", "operator"))
    done = subprocess.run(
        [sys.executable, verdict.__file__, str(size.nodes), str(size.device_nodes)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": sources},
        capture_output=True,
        text=True,
        check=False,
    )
    return float(done.stdout) if done.returncode == 0 else None


def markdown(found: dict[str, Figures]) -> str:
    """The table: a column for each tree."""
    runs = list(found.values())
    kinds = list(dict.fromkeys(kind for run in runs for kind in run.requests))
    processes = list(dict.fromkeys(name for run in runs for name in run.cores))
    rows = [
        ["nodes, of these with the device", *(_size(run, "nodes", "device_nodes") for run in runs)],
        ["pods of others, waiting objects", *(_size(run, "pods", "waiting") for run in runs)],
        ["requests per second", *(f"{sum(run.requests.values()):.2f}" for run in runs)],
        *([f"of these {kind}", *(f"{run.requests.get(kind, 0):.2f}" for run in runs)] for kind in kinds),
        *([f"cores of {name}", *(f"{run.cores.get(name, 0):.2f}" for run in runs)] for name in processes),
        ["cores that other work took", *(f"{run.others_cores:.1f}" for run in runs)],
        ["CPU time of one verdict", *(_milliseconds(run.verdict_ms) for run in runs)],
        ["reasons at the end", *(_reasons(run.reasons) for run in runs)],
    ]
    lines = [["while objects wait", *found], ["---"] * (len(found) + 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _size(run: Figures, *names: str) -> str:
    return ", ".join(f"{run.size[name]:,}" for name in names)


def _milliseconds(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.1f} ms"


def _reasons(reasons: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
