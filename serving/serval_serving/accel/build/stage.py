"""``python3 -m serval_serving.accel.build.stage``: the stage of a Job that builds a model."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from serval_contract import accel_flags as flags
from serval_serving.accel.build.request import KERAS_IMAGENET, RANDOM, BuildRequest
from serval_serving.accel.catalogue import NETWORKS
from serval_serving.stages.program import Report, StageResult, run_stage, start_logging
from serval_serving.stages.termination import TERMINATION_LOG

STAGE: Final = "build"
QUIET: Final[Mapping[str, str]] = {
    "KERAS_BACKEND": "tensorflow",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}
"""Variables that TensorFlow and Keras read at import."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the stage; return its exit status: 0 built, 1 not."""
    options = _parser().parse_args(arguments)
    start_logging()
    request = BuildRequest(
        featurizer=options.featurizer,
        weights=options.weights,
        out=options.out,
        preprocessing=options.preprocessing,
        classifier=options.classifier,
        photos=options.calibration,
        seed=options.seed,
        source_digest=options.source_digest,
    )
    return run_stage(
        STAGE,
        lambda report: _build(request, report),
        progress_port=options.progress_port,
        termination_log=options.termination_log,
    )


def _build(request: BuildRequest, report: Report) -> StageResult:
    os.environ.update(QUIET)
    from serval_serving.accel.build.program import build  # noqa: PLC0415 - TensorFlow, after its variables are set

    return StageResult(asdict(build(request, report)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m {flags.BUILD_PROGRAM}",
        description="Build a SavedModel from a network of the catalogue and weights.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(flags.FEATURIZER.option, required=True, help=f"one of {', '.join(NETWORKS)}")
    add(flags.WEIGHTS.option, required=True, help=f"a path, {RANDOM} or {KERAS_IMAGENET}")
    add(flags.OUT.option, required=True, type=Path, help="folder of the SavedModel; not there yet, or empty")
    add(flags.PREPROCESSING.option, type=_fields, default={}, help="overrides of the preprocessing, as JSON")
    add(flags.CLASSIFIER.option, type=Path, help="a classifier of your own: .npz, .keras or .h5")
    add(flags.CALIBRATION.option, type=Path, help="folder with photos, for the statistics of random weights")
    add(flags.SEED.option, type=int, default=1, help="of random weights (default: %(default)s)")
    add(flags.SOURCE_DIGEST.option, default="", help="digest of the weights, where it is known")
    add(flags.PROGRESS_PORT.option, type=int, default=0, help="port of the progress page")
    add("--termination-log", type=Path, default=TERMINATION_LOG, help="where the report goes")
    return parser


def _fields(text: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"no JSON: {error}") from None
    if not isinstance(fields, dict):
        raise argparse.ArgumentTypeError("no JSON object")
    return fields


if __name__ == "__main__":
    sys.exit(main())
