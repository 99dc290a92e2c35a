"""What a model is: its framework and the number of its version."""

from __future__ import annotations

from typing import Final

TENSORFLOW: Final = "TensorFlow"
ONNX: Final = "ONNX"
FRAMEWORKS: Final = (TENSORFLOW, ONNX)
"""Values of ``spec.model.framework``."""
MAX_VERSION: Final = 2**63 - 1
"""Largest version, as TensorFlow Serving's API has it: int64."""
