"""What a conversion is told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from serval_serving.accel.artifact import Quantization

DEFAULT_MIN_COSINE: Final = 0.9
"""EfficientNet-Lite0 with its real weights reached 0.97 on held-out parts of photos, many of them texture."""
DEFAULT_MIN_AGREEMENT: Final = 0.7
"""Of held-out photos. Networks with random weights, and photos without a clear subject, agree less often than
real ones: EfficientNet-Lite0 reached 0.78."""
STEP_SECONDS: Final = 1200.0
"""A step of the largest network takes four minutes on a busy machine."""


@dataclass(frozen=True, slots=True)
class InputTensor:
    """The tensor at which the graph is cut, as the user names it.

    Attributes
    ----------
    name:
        Such as ``InputImage:0``.
    shape:
        Its dimensions, None for one of any size; None where the graph knows the shape.
    """

    name: str
    shape: tuple[int | None, ...] | None = None


@dataclass(frozen=True, slots=True)
class ConvertOptions:
    """What to convert, and how.

    Attributes
    ----------
    saved_model:
        Folder of the SavedModel.
    out:
        Folder of the artifact. An artifact that is there is replaced.
    input:
        Where to cut; None to find the place.
    outputs:
        Names of the output tensors to keep; empty for all of the signature.
    quantization:
        Of the device part.
    calibration:
        Folder with photos, or with arrays for a model that takes numbers; None for photos that come with
        packages.
    min_cosine:
        Least mean cosine of the int8 features with those in floating point.
    min_agreement:
        Least share of held-out images whose best class is the same; None for `DEFAULT_MIN_AGREEMENT`, which
        counts for photos only.
    source_digest:
        ``sha256:<hex>`` of the model; empty to compute it.
    step_seconds:
        Time limit of each step.
    """

    saved_model: Path
    out: Path
    input: InputTensor | None = None
    outputs: tuple[str, ...] = ()
    quantization: Quantization = "Int8"
    calibration: Path | None = None
    min_cosine: float = DEFAULT_MIN_COSINE
    min_agreement: float | None = None
    source_digest: str = ""
    step_seconds: float = field(default=STEP_SECONDS, compare=False)


def parse_input(text: str) -> InputTensor | None:
    """Read the value of ``--inputs``: a name, or JSON as `serval_contract.accel_flags.INPUTS` says.

    Raises
    ------
    ValueError
        It is neither, or it has more than one tensor.
    """
    tensors = [_input(one) for one in _listed(text)]
    if len(tensors) > 1:
        raise ValueError("the device part has one input tensor, not several")
    return tensors[0] if tensors else None


def parse_outputs(text: str) -> tuple[str, ...]:
    """Read the value of ``--outputs``: names with commas between them, or JSON.

    Raises
    ------
    ValueError
        It is neither.
    """
    return tuple(_input(one).name for one in _listed(text))


def tensor_name(name: str) -> str:
    """Return the name of a tensor, which may be given by the name of its operation alone."""
    return name if ":" in name else f"{name}:0"


def _listed(text: str) -> list[Any]:
    text = text.strip()
    if not text.startswith("["):
        return [name.strip() for name in text.split(",") if name.strip()]
    value = json.loads(text)
    return value if isinstance(value, list) else [value]


def _input(value: object) -> InputTensor:
    if isinstance(value, str) and value:
        return InputTensor(tensor_name(value))
    name = value.get("name") if isinstance(value, Mapping) else None
    if not isinstance(value, Mapping) or not isinstance(name, str) or not name:
        raise ValueError(f"{value!r} is neither a name nor an object with `name`")
    shape = value.get("shape")
    if shape is None:
        return InputTensor(tensor_name(name))
    return InputTensor(tensor_name(name), tuple(_dimension(one) for one in shape))


def _dimension(value: object) -> int | None:
    if value is None or value == -1:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{value!r} is no dimension")
    return value
