"""``serval accel convert``: makes an artifact for devices of a SavedModel."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TextIO

from serval_serving.accel.artifact import Conversion
from serval_serving.accel.convert.arguments import add_arguments, options_of
from serval_serving.accel.convert.pipeline import convert
from serval_serving.cli.errors import OK, REFUSED, CliError
from serval_serving.cli.extra import check_accel
from serval_serving.stages.program import StageFailure

_NEEDED: Final = ("tensorflow", "tf2onnx", "onnx", "onnxruntime")
_BAR: Final = 30
_WIDTH: Final = 100


def add_convert(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.description = (
        "Convert a SavedModel of TensorFlow 1 or 2 into a folder that the engines for devices serve: the part"
        " before the network's input, the network as int8 ONNX, and the classifier in floating point."
    )
    parser.add_argument("saved_model", type=Path, metavar="SAVED_MODEL", help="folder of the SavedModel")
    add_arguments(parser)
    parser.add_argument("-v", "--verbose", action="store_true", help="print the log of the conversion")
    parser.add_argument("--json", action="store_true", help="print the artifact's description as JSON")
    parser.set_defaults(run=run_convert)


def run_convert(options: argparse.Namespace) -> int:
    """Convert, and print what was measured.

    Raises
    ------
    CliError
        The packages for it are missing, or the model cannot be converted.
    """
    check_accel(_NEEDED, "convert")
    if options.verbose:
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    bar = ProgressBar(sys.stderr)
    try:
        conversion = convert(options_of(options), bar)
    except StageFailure as failure:
        bar.close()
        raise CliError(f"{failure.reason}: {failure.message}", REFUSED) from failure
    bar.close()
    print(json.dumps(json.loads(conversion.dump())) if options.json else _words(options.out, conversion))
    return OK


class ProgressBar:
    """Shows how far a conversion is: one line that changes on a terminal, else a line for each message.

    Parameters
    ----------
    stream:
        Where it is shown.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._last = ""

    def __call__(self, step: str, percent: int, message: str) -> None:
        """Show a step, the percentage of the whole that is done, and what is done."""
        if self._is_terminal:
            done = _BAR * percent // 100
            line = f"[{'#' * done}{' ' * (_BAR - done)}] {percent:3} % {step}: {message}"
            print(f"\r\033[K{line[:_WIDTH]}", end="", file=self._stream, flush=True)
        elif message != self._last:
            print(f"{percent:3} % {step}: {message}", file=self._stream, flush=True)
        self._last = message

    def close(self) -> None:
        """Leave the line as it is and begin a new one."""
        if self._is_terminal and self._last:
            print(file=self._stream, flush=True)


def _words(out: Path, conversion: Conversion) -> str:
    report = conversion.report
    sizes = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in report["bytes"].items())
    lines = [
        f"{out}: {conversion.quantization}, host part {conversion.host.kind}; {sizes}",
        f"float ONNX differs from TensorFlow by {report['float_error']:.1g} of the largest value",
    ]
    if "images" in report:
        lines += [
            f"{words}, {report[name]['images']} images ({report['images']['origin']}): "
            + _accuracy(report[name])
            for name, words in (("calibration", "calibration"), ("held_out", "held out"))
        ]
    seconds, peak = sum(report["seconds"].values()), max(report["peak_bytes"].values())
    lines.append(f"{seconds:.0f} s, {peak >> 20} MiB of memory at most")
    return "\n".join(lines)


def _accuracy(measured: Mapping[str, Any]) -> str:
    error = f"largest error {measured['largest_error']:.3g} of {measured['range']:.3g}"
    words = f"cosine {measured['cosine']:.4f}, {error}"
    if measured["agreement"] is None:
        return words
    return f"{words}, same class {100 * measured['agreement']:.0f} %, of {measured['classes']} classes"
