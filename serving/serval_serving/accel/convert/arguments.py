"""The arguments that the stage of the Job and ``serval accel convert`` have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from serval_contract import accel_flags as flags
from serval_serving.accel.convert.options import (
    DEFAULT_MIN_AGREEMENT,
    DEFAULT_MIN_COSINE,
    STEP_SECONDS,
    ConvertOptions,
    parse_input,
    parse_outputs,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add all arguments but the SavedModel's folder, which is stored as `saved_model`."""
    add = parser.add_argument
    add(flags.OUT.option, required=True, type=Path, metavar="DIR", help="folder to make: the artifact")
    add(
        flags.INPUTS.option,
        dest="input",
        type=_parsed(parse_input),
        metavar="TENSOR",
        help="the network's input, at which the graph is cut: a name, or JSON with name and shape"
        " (default: what the build recorded, else what is found)",
    )
    add(
        flags.OUTPUTS.option,
        type=_parsed(parse_outputs),
        default=(),
        metavar="TENSORS",
        help="output tensors to keep: names with commas, or JSON (default: those of the signature)",
    )
    add(
        flags.QUANTIZATION.option,
        choices=("Int8", "Float"),
        default="Int8",
        help="numbers of the device part (default: %(default)s)",
    )
    add(
        flags.CALIBRATION.option,
        type=Path,
        metavar="DIR",
        help="folder with photos, or .npy files for a model that takes numbers (default: the photos of"
        " scikit-image where it is installed, else random pictures)",
    )
    add(
        flags.MIN_COSINE.option,
        type=_share,
        default=DEFAULT_MIN_COSINE,
        help="least mean cosine of int8 and float features (default: %(default)s)",
    )
    add(
        flags.MIN_AGREEMENT.option,
        type=_share,
        help="least share of held-out inputs with the same best class"
        f" (default: {DEFAULT_MIN_AGREEMENT}; 0 with random pictures)",
    )
    add(flags.SOURCE_DIGEST.option, default="", help="sha256:... of the model (default: it is computed)")
    add(
        "--step-seconds", type=float, default=STEP_SECONDS, help="time limit of a step (default: %(default)g)"
    )


def options_of(parsed: argparse.Namespace) -> ConvertOptions:
    """Return the options that the arguments say."""
    return ConvertOptions(
        saved_model=parsed.saved_model,
        out=parsed.out,
        input=parsed.input,
        outputs=parsed.outputs,
        quantization=parsed.quantization,
        calibration=parsed.calibration,
        min_cosine=parsed.min_cosine,
        min_agreement=parsed.min_agreement,
        source_digest=parsed.source_digest,
        step_seconds=parsed.step_seconds,
    )


def _parsed(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    def checked(text: str) -> Any:
        try:
            return parse(text)
        except (ValueError, TypeError, RecursionError) as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return checked


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError("a number from 0 to 1 is wanted")
    return value
