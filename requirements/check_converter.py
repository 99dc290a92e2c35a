"""Proves, in the build, that a graph of TensorFlow becomes ONNX, is quantised and runs in the trimmed image.

The graph is made by Keras, whose import needs more of TensorFlow than a server does. An import that trimming
broke fails the build here and not a conversion.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import onnxruntime
import tensorflow as tf
import tf2onnx
from onnxruntime.quantization import CalibrationDataReader, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

OPSET = 17
PIXELS = np.ones((1, 4, 4, 1), np.float32)
SUM = 9.0
"""Nine ones under every position of the kernel."""


class Calibration(CalibrationDataReader):  # type: ignore[misc]
    """Gives the quantiser one image."""

    def __init__(self) -> None:
        self._images: Iterator[dict[str, Any]] = iter([{"pixels": PIXELS}])

    def get_next(self) -> dict[str, Any] | None:
        """Return the next image, or None after the last."""
        return next(self._images, None)


def convert(path: Path) -> None:
    """Write a convolution, its activation and a mean as ONNX."""
    network = keras.Sequential(
        [
            keras.layers.Conv2D(1, 3, activation="relu", kernel_initializer="ones"),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )
    signature = [tf.TensorSpec([None, 4, 4, 1], tf.float32, name="pixels")]
    model, _ = tf2onnx.convert.from_function(
        tf.function(network), input_signature=signature, opset=OPSET, output_path=str(path)
    )
    onnx.checker.check_model(model, full_check=True)


def score(path: Path) -> float:
    """Run a model on the image."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {"pixels": PIXELS})
    return float(np.asarray(output).item())


def main() -> None:
    """Fail unless the floating-point model is exact, and the quantised one close."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        floating, prepared, quantised = (folder / f"{one}.onnx" for one in ("float", "prepared", "int8"))
        convert(floating)
        np.testing.assert_array_equal(score(floating), SUM)
        quant_pre_process(str(floating), str(prepared), skip_symbolic_shape=True)
        quantize_static(str(prepared), str(quantised), Calibration(), per_channel=True)
        np.testing.assert_allclose(score(quantised), SUM, rtol=0.02)


if __name__ == "__main__":
    main()
