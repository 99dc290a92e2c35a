"""``serval accel build``: makes a SavedModel from a network of the catalogue and weights.

The work is done by the stage's program in its own process: the command itself never imports TensorFlow.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections import deque
from pathlib import Path
from typing import Final

from serval_contract import accel_flags as flags
from serval_contract.stage_report import StageReport, parse_stage_report
from serval_serving.accel.catalogue import NETWORKS
from serval_serving.cli.errors import OK, REFUSED, USAGE, CliError
from serval_serving.cli.extra import check_accel

_NEEDED: Final = ("tensorflow", "keras", "h5py", "PIL")
_PROGRESS: Final = re.compile(r" INFO (\d+ of \d+ steps: .*)$")
_TAIL: Final = 20
"""Lines of the program's log that are shown where it left no report."""


def add_build(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Make a SavedModel that takes photos (JPEG or PNG): a network of the catalogue with your weights,"
        " preprocessing in front, a classifier behind. docs/networks.md describes the networks."
    )
    add = parser.add_argument
    add("--featurizer", required=True, choices=tuple(NETWORKS), help="network of the catalogue")
    add(
        "--weights",
        required=True,
        help="a .keras, .h5 or .weights.h5 file, a SavedModel, a checkpoint, `random`, or `keras:imagenet`"
        " to download Keras' published weights",
    )
    add("--out", required=True, type=Path, help="folder of the SavedModel; not there yet, or empty")
    add("--classifier", type=Path, help="a classifier of your own: .npz, .keras or .h5")
    add("--preprocessing", help='overrides as JSON, such as {"order": "BGR"}')
    add("--photos", type=Path, help="folder with photos, from which random weights get batch-norm statistics")
    add("--seed", type=int, help="of random weights")
    add("-v", "--verbose", action="store_true", help="print the log of the build")
    add("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run_build)


def run_build(options: argparse.Namespace) -> int:
    """Build, with progress on standard error.

    Raises
    ------
    CliError
        The packages for it are missing, or the model cannot be built.
    """
    check_accel(_NEEDED, "build")
    if options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
        raise CliError(f"{options.out} exists already", USAGE)
    report = _run_stage(_arguments(options), verbose=options.verbose)
    if report.reason or report.message:
        raise CliError(": ".join(part for part in (report.reason, report.message) if part), REFUSED)
    print(json.dumps(dict(report.result)) if options.json else _words(options.out, report))
    return OK


def _arguments(options: argparse.Namespace) -> list[str]:
    found = [
        flags.FEATURIZER(options.featurizer),
        flags.WEIGHTS(options.weights),
        flags.OUT(str(options.out)),
    ]
    for flag, value in (
        (flags.CLASSIFIER, options.classifier),
        (flags.PREPROCESSING, options.preprocessing),
        (flags.CALIBRATION, options.photos),
        (flags.SEED, options.seed),
    ):
        if value is not None:
            found.append(f"{flag.prefix}{value}")
    return found


def _run_stage(arguments: list[str], *, verbose: bool) -> StageReport:
    """Run the stage's program, show its progress, and return its report.

    Raises
    ------
    CliError
        It left none.
    """
    with tempfile.NamedTemporaryFile(mode="r", encoding="ascii") as log:
        command = [sys.executable, "-m", flags.BUILD_PROGRAM, *arguments, f"--termination-log={log.name}"]
        tail: deque[str] = deque(maxlen=_TAIL)
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace") as child:  # noqa: S603
            assert child.stderr is not None  # noqa: S101 - a pipe
            for line in child.stderr:
                tail.append(line)
                progress = _PROGRESS.search(line)
                if verbose:
                    print(line.rstrip(), file=sys.stderr, flush=True)
                elif progress:
                    print(progress[1], file=sys.stderr, flush=True)
        report = parse_stage_report(log.read())
    if report is None:
        killed = " (killed, perhaps for lack of memory)" if child.returncode < 0 else ""
        raise CliError(f"the build ended with status {child.returncode}{killed}:\n{''.join(tail)}", REFUSED)
    return report


def _words(out: Path, report: StageReport) -> str:
    result = report.result
    size = result["bytes"] / 1e6
    classes = f", {result['classes']} classes" if result["classes"] else ""
    lines = [
        f"{out}: {result['network']}, weights {result['weights']}{classes}, {size:.1f} MB",
        f"{result['peak_bytes'] >> 20} MiB of memory at most",
    ]
    if result["batch_norms"]:
        lines.append(f"statistics of {result['batch_norms']} batch norms from {result['photos']} photos")
    if result["weights"] == "Random":
        lines.append("the weights are random: the answers mean nothing")
    return "\n".join(lines)
