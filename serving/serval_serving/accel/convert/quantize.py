"""Floating point to int8: static, per channel, unsigned activations and signed weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

EXCLUDED: Final = frozenset(
    {"Softmax", "LogSoftmax", "Sigmoid", "Exp", "TopK", "NonMaxSuppression", "ArgMax"}
)
"""Stay in floating point also where the classifier could not be split off. ONNX Runtime gives a quantised
Softmax the scale 1/256, which makes a thousand probabilities of about the same size all zero."""


class _Inputs(CalibrationDataReader):  # type: ignore[misc]
    """Gives the calibration one input after another."""

    def __init__(self, name: str, inputs: np.ndarray[Any, Any]) -> None:
        self._name = name
        self._rows = iter(inputs)

    def get_next(self) -> dict[str, np.ndarray[Any, Any]] | None:
        """Return the next input; None after the last."""
        row = next(self._rows, None)
        return None if row is None else {self._name: np.ascontiguousarray(row[None])}


def quantize(source: Path, target: Path, inputs: np.ndarray[Any, Any], work: Path) -> None:
    """Write the int8 file of a float one.

    Parameters
    ----------
    inputs:
        What it is calibrated with, one row for each input.
    work:
        Folder for files in between.
    """
    prepared = work / "prepared.onnx"
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    model = onnx.load(str(prepared), load_external_data=False)
    (given,) = model.graph.input
    # Names identify the nodes that are left out, and folding leaves some nodes without one.
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"node_{index}"
    excluded = [node.name for node in model.graph.node if node.op_type in EXCLUDED]
    onnx.save(model, str(prepared))
    name = given.name
    del model
    quantize_static(
        str(prepared),
        str(target),
        _Inputs(name, inputs),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        # The calibrators by histogram keep every activation of every input: 1.8 GB for a network of 18 MB.
        calibrate_method=CalibrationMethod.MinMax,
        nodes_to_exclude=excluded,
    )
    prepared.unlink()
