"""The whole conversion: the steps one after another, and the artifact of what they made."""

from __future__ import annotations

import importlib.metadata
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from serval_contract.conversion_key import CONVERTER
from serval_serving.accel.artifact import (
    CLASSIFIER_FILE,
    CONVERSION_FILE,
    DEVICE_ONNX,
    HOST_FILE,
    ArtifactError,
    Conversion,
    Host,
    Part,
    Tensor,
    parse_preprocessing,
    read_conversion,
)
from serval_serving.accel.build_record import read_build_record
from serval_serving.accel.convert import memory
from serval_serving.accel.convert.children import StepDone, run_step
from serval_serving.accel.convert.failures import failed, inaccurate, invalid, listed
from serval_serving.accel.convert.options import DEFAULT_MIN_AGREEMENT, ConvertOptions
from serval_serving.models.folder_digest import file_sha256, folder_content
from serval_serving.models.versions import scan

_LOG: Final = logging.getLogger("serval.convert")
_SAVED_MODEL_FILES: Final = ("saved_model.pb", "saved_model.pbtxt")
_PACKAGES: Final = ("tf2onnx", "onnxruntime", "onnx")
_SHARES: Final[Mapping[str, tuple[float, float]]] = {
    "translate": (0.0, 0.5),
    "fold": (0.5, 0.58),
    "split": (0.58, 0.62),
    "quantize": (0.62, 0.88),
    "check": (0.88, 1.0),
}
"""Where each step begins and ends in the whole, as measured on ResNet50."""

Progress = Callable[[str, int, str], None]
"""Takes the step, the percentage of the whole conversion that is done, and what is done."""


@dataclass(slots=True)
class _Run:
    """One conversion."""

    options: ConvertOptions
    work: Path
    progress: Progress
    needed: int
    done: dict[str, StepDone]

    def step(self, name: str, **request: Any) -> Mapping[str, Any]:
        """Run a step; return its result."""
        start, end = _SHARES[name]

        def progress(share: float, message: str) -> None:
            self.progress(name, round(100 * (start + share * (end - start))), message)

        self.done[name] = run_step(
            name,
            {"work": str(self.work), **request},
            self.work,
            needed=self.needed,
            seconds=self.options.step_seconds,
            progress=progress,
            log=lambda line: _LOG.info("%s: %s", name, line),
        )
        return self.done[name].result


def convert(
    options: ConvertOptions, progress: Progress = lambda _step, _percent, _message: None
) -> Conversion:
    """Convert a SavedModel, write the artifact's folder and return its description.

    The folder is complete or not there: it is made beside its place and moved.

    Raises
    ------
    StageFailure
        The model cannot be converted, or not with the accuracy that is wanted.
    """
    options = replace(options, saved_model=_version_of(options.saved_model))
    source, out = options.saved_model, options.out
    _check_place(out)
    try:
        read_build_record(source)
    except ArtifactError as error:
        raise invalid(str(error)) from error
    digest = options.source_digest or f"sha256:{folder_content(source).sha256}"
    work = out.parent / f".{out.name}.work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        run = _Run(options, work, progress, memory.wanted_bytes(source), {})
        _warn_of_memory(run.needed)
        conversion = replace(_converted(run), source_digest=digest, converter=converter_version())
        _publish(work, out, conversion)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    progress("check", 100, "converted")
    return conversion


def converter_version() -> str:
    """Return the versions of what converts, for people."""
    parts = [f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES]
    return ", ".join([f"serval converter {CONVERTER}", *parts])


def _version_of(folder: Path) -> Path:
    """Return the folder of the SavedModel: the one given, or the only version of a base path.

    The fetcher, like TensorFlow Serving, keeps a model as a base path with a numbered folder in it.
    """
    versions = scan(folder)
    chosen = next(iter(versions.values())) if len(versions) == 1 else folder
    for source in (folder, chosen):
        if any((source / name).is_file() for name in _SAVED_MODEL_FILES):
            return source
    if len(versions) > 1:
        raise invalid(
            f"{folder} has {len(versions)} versions, {listed(map(str, sorted(versions)))}; name one"
        )
    raise invalid(f"{chosen} is no SavedModel: it has no saved_model.pb")


def _check_place(out: Path) -> None:
    """Refuse to replace a folder that is no artifact."""
    if not out.exists():
        return
    if not out.is_dir() or (any(out.iterdir()) and not (out / CONVERSION_FILE).is_file()):
        raise failed(f"{out} exists and is no artifact; it is not replaced")


def _warn_of_memory(needed: int) -> None:
    had = memory.available_bytes()
    if had is not None and had < needed:
        _LOG.warning("the conversion needs about %d MiB, and there are %d MiB", needed >> 20, had >> 20)


def _converted(run: _Run) -> Conversion:
    options, work = run.options, run.work
    found = run.step(
        "translate",
        saved_model=str(options.saved_model.absolute()),
        input=None if options.input is None else asdict(options.input),
        outputs=list(options.outputs),
        quantization=options.quantization,
        calibration=None if options.calibration is None else str(options.calibration.absolute()),
    )
    outputs = [one["name"] for one in found["outputs"].values()]
    run.step("fold")
    parts = run.step("split", features=found["features"], outputs=outputs)
    if options.quantization == "Int8":
        run.step("quantize")
    features = [one["name"] for one in parts["device"]["outputs"]]
    checked = run.step("check", features=features, ends=found["ends"], outputs=outputs)
    if options.quantization == "Float":
        (work / "float.onnx").rename(work / DEVICE_ONNX)
    else:
        _judge(options, found["calibration"]["origin"], checked)
    report = _report(run, found, checked)
    return _description(work, options, found, parts, report)


def _judge(options: ConvertOptions, origin: str, checked: Mapping[str, Any]) -> None:
    """Refuse an int8 network that is too far from the float one on inputs that did not calibrate it."""
    held_out = checked["held_out"]
    if held_out["cosine"] < options.min_cosine:
        raise inaccurate(
            f"the cosine of int8 and float features is {held_out['cosine']:.6f} on held-out inputs"
            f" ({origin}), below {options.min_cosine:g}"
        )
    least = options.min_agreement
    if least is None:
        least = 0.0 if origin == "Random" else DEFAULT_MIN_AGREEMENT
    if held_out["agreement"] is not None and held_out["agreement"] < least:
        raise inaccurate(
            f"int8 and float agree on the best class of {100 * held_out['agreement']:.0f} % of held-out"
            f" inputs ({origin}), less than {100 * least:g} %"
        )


def _report(run: _Run, found: Mapping[str, Any], checked: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the conversion measured; docs/conversion.md explains it."""
    report: dict[str, Any] = {
        "float_error": checked["float_error"],
        "seconds": {name: round(one.seconds, 1) for name, one in run.done.items()},
        "peak_bytes": {name: one.peak_bytes for name, one in run.done.items()},
        "weight_bytes": found["weight_bytes"],
        "needed_bytes": run.needed,
    }
    calibration = found["calibration"]
    if calibration is not None:
        report |= {
            "images": calibration,
            "calibration": checked["calibration"],
            "held_out": checked["held_out"],
            "float_bytes": (run.work / "float.onnx").stat().st_size,
        }
    return report


def _description(
    work: Path,
    options: ConvertOptions,
    found: Mapping[str, Any],
    parts: Mapping[str, Any],
    report: dict[str, Any],
) -> Conversion:
    record = found["record"]
    host = _host(work, found)
    device = _part(work, DEVICE_ONNX, parts["device"])
    classifier = _part(work, CLASSIFIER_FILE, parts["classifier"]) if parts["classifier"] else None
    made = {one.name: one for part in (device, classifier) if part is not None for one in part.outputs}
    # The converted network knows shapes that the signature leaves open.
    outputs = {alias: made.get(one["name"], _tensor(one)) for alias, one in found["outputs"].items()}
    files = [DEVICE_ONNX, *([CLASSIFIER_FILE] if classifier else []), *([HOST_FILE] if host.sha256 else [])]
    report["bytes"] = {name: (work / name).stat().st_size for name in files}
    return Conversion(
        inputs={alias: _tensor(one) for alias, one in found["inputs"].items()},
        outputs=outputs,
        host=host,
        device=device,
        classifier=classifier,
        quantization=options.quantization,
        network="" if record is None else record["network"],
        weights="User" if record is None else record["weights"],
        report=report,
    )


def _host(work: Path, found: Mapping[str, Any]) -> Host:
    """Describe the host part: by its preprocessing where the build recorded it, else by its graph."""
    if found["host_input"] is None:
        return Host("None")
    inputs, outputs = (_tensor(found["host_input"]),), (_tensor(found["input"]),)
    preprocessing = None if found["record"] is None else found["record"]["preprocessing"]
    if preprocessing is not None and found["record"]["input"] == outputs[0].name:
        return Host("Images", inputs, outputs, parse_preprocessing(preprocessing))
    return Host("Graph", inputs, outputs, sha256=_digest(work / HOST_FILE))


def _part(work: Path, file: str, tensors: Mapping[str, Any]) -> Part:
    inputs, outputs = (tuple(_tensor(one) for one in tensors[role]) for role in ("inputs", "outputs"))
    return Part(file, _digest(work / file), inputs, outputs)


def _tensor(fields: Mapping[str, Any]) -> Tensor:
    return Tensor(fields["name"], fields["dtype"], tuple(fields["shape"]))


def _digest(path: Path) -> str:
    return f"sha256:{file_sha256(path)}"


def _publish(work: Path, out: Path, conversion: Conversion) -> None:
    """Move the artifact to its place, in one step."""
    made = work / "artifact"
    made.mkdir()
    for name in conversion.report["bytes"]:
        (work / name).rename(made / name)
    (made / CONVERSION_FILE).write_text(conversion.dump(), encoding="utf-8")
    read_conversion(made)
    if out.exists():
        shutil.rmtree(out)
    made.rename(out)
