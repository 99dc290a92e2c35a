"""The steps of a conversion, as the child process runs them: JSON data in, JSON data out, files in `work`."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from serval_serving.accel.build_record import BuildRecord, read_build_record
from serval_serving.accel.convert.failures import bad_calibration, failed
from serval_serving.accel.convert.options import InputTensor

Report = Callable[[float, str], None]
"""Takes how far a step is, from 0 to 1, and what it does."""

CALIBRATION_IMAGES: Final = 32
HELD_OUT_IMAGES: Final = 32
MAX_FLOAT_ERROR: Final = 1e-3
"""Of the float ONNX file against TensorFlow, as a part of the largest value: rounding alone is below 1e-4."""

RAW, FOLDED, FLOAT_DEVICE, CLASSIFIER = "raw.onnx", "folded.onnx", "float.onnx", "classifier.onnx"
DEVICE, HOST = "device.onnx", "host.pb"
CALIBRATION, HELD_OUT, REFERENCE = "calibration.npy", "held_out.npy", "reference.npz"


def translate(request: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """Cut the SavedModel, write the host part, the calibration's inputs and the network as ONNX."""
    # Each step imports only what it needs: TensorFlow alone takes half a gigabyte.
    from serval_serving.accel.convert import cut, device_graph, saved_model  # noqa: PLC0415

    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    source, work = Path(request["saved_model"]), Path(request["work"])
    record = read_build_record(source)
    recorded = () if record is None else (record.input, *record.features)
    report(0.05, "loading the SavedModel")
    model = saved_model.load(source, request["outputs"], recorded)
    report(0.3, "looking for the network's input")
    wanted, how = _wanted(request, record)
    place = cut.choose_cut(model, wanted, how=how)
    report(0.35, f"the network's input is {place.tensor.name}, {place.how}")
    ends = list(dict.fromkeys([*recorded[1:], *(one.name for one in model.outputs.values())]))
    device = device_graph.device_graph(model, place, ends)
    result = _described(model, place, record) | {"ends": ends} | _host_part(request, model, place, report)
    _reference(model, place, ends, work)
    weights = model.weights
    del model
    gc.collect()
    report(0.5, "converting to ONNX")

    def later(share: float, message: str) -> None:
        report(0.5 + share / 2, message)

    _write_onnx(device, place.tensor.name, ends, weights, work / RAW, later)
    return result


def fold(request: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """Fold constants."""
    from serval_serving.accel.convert import onnx_parts  # noqa: PLC0415

    work = Path(request["work"])
    report(0.1, "folding constants")
    onnx_parts.fold(work / RAW, work / FOLDED)
    (work / RAW).unlink()
    return {}


def split(request: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """Split the classifier from the device part."""
    from serval_serving.accel.convert import onnx_parts  # noqa: PLC0415

    work = Path(request["work"])
    report(0.1, "splitting the classifier from the device part")
    device, classifier = onnx_parts.split(
        work / FOLDED, request["features"], request["outputs"], work / FLOAT_DEVICE, work / CLASSIFIER
    )
    (work / FOLDED).unlink()
    return {"device": device, "classifier": classifier}


def quantize(request: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """Quantise the device part."""
    from serval_serving.accel.convert.quantize import quantize as to_int8  # noqa: PLC0415

    work = Path(request["work"])
    report(0.1, "quantising")
    to_int8(work / FLOAT_DEVICE, work / DEVICE, np.load(work / CALIBRATION), work)
    return {}


def check(request: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """Compare the float file with TensorFlow, and the int8 file with the float one."""
    from serval_serving.accel.convert import accuracy  # noqa: PLC0415

    work = Path(request["work"])
    classifier = work / CLASSIFIER if (work / CLASSIFIER).exists() else None
    report(0.05, "comparing with TensorFlow")
    result: dict[str, Any] = {"float_error": _float_error(work, classifier, request["ends"])}
    if not (work / DEVICE).exists():
        return result
    sets = {name: np.load(work / f"{name}.npy") for name in ("calibration", "held_out")}
    found = {}
    # One session at a time: each holds all weights.
    for index, file in enumerate((FLOAT_DEVICE, DEVICE)):
        report(0.2 + 0.4 * index, "comparing int8 with float")
        for name, inputs in sets.items():
            found[name, file] = accuracy.run_parts(work / file, classifier, inputs)
    for name in sets:
        exact, other = found[name, FLOAT_DEVICE], found[name, DEVICE]
        compared = accuracy.accuracy(exact, other, request["features"], request["outputs"])
        result[name] = compared.fields()
    return result


STEPS: Final[Mapping[str, Callable[[Mapping[str, Any], Report], dict[str, Any]]]] = {
    "translate": translate,
    "fold": fold,
    "split": split,
    "quantize": quantize,
    "check": check,
}


def _wanted(request: Mapping[str, Any], record: BuildRecord | None) -> tuple[InputTensor | None, str]:
    """Return the network's input as far as someone said it, and who said it."""
    given = request["input"]
    if given is not None:
        shape = given["shape"]
        return InputTensor(given["name"], None if shape is None else tuple(shape)), "named"
    return (None, "") if record is None else (InputTensor(record.input), "recorded by the build")


def _described(model: Any, place: Any, record: BuildRecord | None) -> dict[str, Any]:
    """Return what the parent writes into `conversion.json`."""
    return {
        "input": asdict(place.tensor),
        "host_input": None if place.host_input is None else asdict(place.host_input),
        "inputs": {alias: asdict(one) for alias, one in model.inputs.items()},
        "outputs": {alias: asdict(one) for alias, one in model.outputs.items()},
        "features": [] if record is None else list(record.features),
        "record": None if record is None else asdict(record),
        "weight_bytes": sum(one.nbytes for one in {id(one): one for one in model.weights.values()}.values()),
    }


def _host_part(request: Mapping[str, Any], model: Any, place: Any, report: Report) -> dict[str, Any]:
    """Write the host part, and the inputs of the calibration that it makes of pictures."""
    from serval_serving.accel.convert import host_graph, samples  # noqa: PLC0415

    work = Path(request["work"])
    graph_def = None
    if place.host_input is not None:
        graph_def = host_graph.host_graph(model, place, place.host_input)
        (work / HOST).write_bytes(graph_def.SerializeToString(deterministic=True))
    if request["quantization"] != "Int8":
        return {"calibration": None}
    report(0.4, "making the inputs of the calibration")
    folder = None if request["calibration"] is None else Path(request["calibration"])
    if folder is not None and not folder.is_dir():
        raise bad_calibration(f"the folder for the calibration, {folder.name}, does not exist")
    made = samples.inputs(place, graph_def, folder, CALIBRATION_IMAGES + HELD_OUT_IMAGES)
    np.save(work / CALIBRATION, made.inputs[:CALIBRATION_IMAGES])
    np.save(work / HELD_OUT, made.inputs[CALIBRATION_IMAGES:])
    return {"calibration": {"origin": made.origin, "skipped": made.skipped}}


def _reference(model: Any, place: Any, ends: Sequence[str], work: Path) -> None:
    """Write what TensorFlow computes of two random inputs."""
    from serval_serving.accel.convert import samples  # noqa: PLC0415

    given, outputs = samples.reference(model, place, ends)
    np.savez(work / REFERENCE, given, *outputs)


def _write_onnx(
    graph_def: Any, start: str, ends: Sequence[str], weights: dict[str, Any], target: Path, report: Report
) -> None:
    import onnx  # noqa: PLC0415

    from serval_serving.accel.convert.to_onnx import to_onnx  # noqa: PLC0415

    model = to_onnx(graph_def, start, ends, weights, report)
    weights.clear()
    onnx.save(model, str(target))


def _float_error(work: Path, classifier: Path | None, ends: Sequence[str]) -> float:
    """Return the largest difference from TensorFlow, as a part of the largest value of its tensor."""
    from serval_serving.accel.convert import accuracy  # noqa: PLC0415

    with np.load(work / REFERENCE) as file:
        given, *exact = (file[name] for name in file.files)
    found = accuracy.run_parts(work / FLOAT_DEVICE, classifier, given)
    worst = 0.0
    for name, value in zip(ends, exact, strict=True):
        exact_values = value.astype(np.float64)
        scale = max(float(np.abs(exact_values).max(initial=0.0)), 1e-6)
        worst = max(worst, float(np.abs(exact_values - found[name]).max(initial=0.0)) / scale)
    if not worst <= MAX_FLOAT_ERROR:
        raise failed(
            f"the converted network differs from TensorFlow by {worst:.2g} of the largest value; this is a"
            " fault of the conversion"
        )
    return worst
