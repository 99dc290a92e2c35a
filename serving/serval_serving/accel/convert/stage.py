"""``python -m serval_serving.accel.convert.stage``: the conversion as a stage of a Job."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from serval_contract import accel_flags as flags
from serval_contract.progress import Progress
from serval_contract.stage_report import StageFile
from serval_serving.accel.artifact import CONVERSION_FILE, Conversion
from serval_serving.accel.convert.arguments import add_arguments, options_of
from serval_serving.accel.convert.options import ConvertOptions
from serval_serving.accel.convert.pipeline import convert
from serval_serving.models.folder_digest import file_sha256
from serval_serving.stages.program import Report, StageResult, run_stage, start_logging
from serval_serving.stages.termination import TERMINATION_LOG

STAGE: Final = "convert"
_MEASURED: Final = {"cosine": "cosine", "largest_error": "largestError", "agreement": "agreement"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the stage; return the exit status: 0 converted, 1 not."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {flags.CONVERT_PROGRAM}",
        description="Convert a SavedModel for a device.",
        allow_abbrev=False,
    )
    add_arguments(parser)
    parser.add_argument(flags.SAVED_MODEL.option, required=True, type=Path, help="folder of the SavedModel")
    parser.add_argument(
        flags.PROGRESS_PORT.option, type=int, default=0, help="where the progress page answers; 0 for no page"
    )
    parser.add_argument("--termination-log", type=Path, default=TERMINATION_LOG, help="where the result goes")
    parsed = parser.parse_args(arguments)
    start_logging()
    work = partial(_work, options_of(parsed))
    return run_stage(STAGE, work, progress_port=parsed.progress_port, termination_log=parsed.termination_log)


def _work(options: ConvertOptions, report: Report) -> StageResult:
    def progress(step: str, percent: int, message: str) -> None:
        report(Progress(percent, 100, "percent", f"{step}: {message}", STAGE))

    conversion = convert(options, progress)
    names = [*conversion.report["bytes"], CONVERSION_FILE]
    files = tuple(_file(options.out / name, name) for name in names)
    return StageResult({"conversion": summary(conversion)}, files)


def summary(conversion: Conversion) -> dict[str, Any]:
    """Return what the status shows of a conversion, without what has a file's length."""
    report = conversion.report
    shown: dict[str, Any] = {
        "sourceDigest": conversion.source_digest,
        "converter": conversion.converter,
        "quantization": conversion.quantization,
        "host": conversion.host.kind,
        "weights": conversion.weights,
        "bytes": report["bytes"],
        "seconds": report["seconds"],
        "peakBytes": report["peak_bytes"],
    }
    if "images" in report:
        shown["images"] = report["images"]["origin"]
        for name, key in (("calibration", "calibration"), ("held_out", "heldOut")):
            shown[key] = {field: _rounded(report[name][measured]) for measured, field in _MEASURED.items()}
    return shown


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")


def _file(path: Path, name: str) -> StageFile:
    return StageFile(name, f"sha256:{file_sha256(path)}", path.stat().st_size)


if __name__ == "__main__":
    sys.exit(main())
