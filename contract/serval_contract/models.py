"""What identifies a model: its framework, the number of its version, the digest of its files."""

from __future__ import annotations

import re
from typing import Final

TENSORFLOW: Final = "TensorFlow"
ONNX: Final = "ONNX"
FRAMEWORKS: Final = (TENSORFLOW, ONNX)
"""Values of ``spec.model.framework``."""
ACCELERATED: Final = "Accelerated"
"""What the fetcher calls the format of artifacts of AcceleratedModels. It is no value of a spec."""
WEIGHTS: Final = "Weights"
"""What the fetcher calls files with the weights of a featurizer. Only the Job of a conversion asks for them;
it is no value of a spec."""
MAX_VERSION: Final = 2**63 - 1
"""Largest version, as TensorFlow Serving's API has it: int64."""
DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
"""How a digest is written, of a model's files as of an image."""
