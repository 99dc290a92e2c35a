"""Measures how far the int8 device part is from the float one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime

Array = np.ndarray[Any, Any]
Outputs = dict[str, Array]

CPU: Final = ["CPUExecutionProvider"]
_EPSILON: Final = 1e-12


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Agreement of int8 with float on one set of inputs.

    Attributes
    ----------
    images:
        Number of inputs.
    cosine:
        Mean cosine of the features of one input; of several feature tensors, the least.
    least_cosine:
        The cosine of the worst input.
    largest_error:
        Largest absolute difference of a feature.
    range:
        Largest absolute feature in floating point.
    agreement:
        Share of inputs with the same best class; None for a model without a tensor of classes.
    classes:
        Number of different best classes in floating point: of one class, agreement says nothing.
    """

    images: int
    cosine: float
    least_cosine: float
    largest_error: float
    range: float
    agreement: float | None
    classes: int | None

    def fields(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return asdict(self)


def run_parts(device: Path, classifier: Path | None, inputs: Array) -> Outputs:
    """Run a device part and the classifier on each input; return all tensors of both, rows joined."""
    names, rows = _run(device, inputs)
    outputs = dict(zip(names, rows, strict=True))
    if classifier is not None:
        outputs |= run_classifier(classifier, outputs)
    return outputs


def run_classifier(classifier: Path, features: Mapping[str, Array]) -> Outputs:
    """Run the classifier on features."""
    session = _session(classifier)
    feed = {one.name: features[one.name] for one in session.get_inputs()}
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


def accuracy(exact: Outputs, found: Outputs, features: Sequence[str], outputs: Sequence[str]) -> Accuracy:
    """Compare int8 with float.

    Parameters
    ----------
    exact, found:
        Tensors of the float parts and of the int8 parts.
    features:
        Names of the device part's outputs.
    outputs:
        Names of the signature's outputs, in order.
    """
    cosines = [_cosines(exact[name], found[name]) for name in features]
    worst = min(cosines, key=lambda one: float(one.mean()))
    classes = next((name for name in outputs if _has_classes(exact[name])), None)
    agreement = distinct = None
    if classes is not None:
        best, other = (one[classes].reshape(len(one[classes]), -1).argmax(axis=1) for one in (exact, found))
        agreement, distinct = float((best == other).mean()), len(set(best.tolist()))
    return Accuracy(
        images=len(exact[features[0]]),
        cosine=float(worst.mean()),
        least_cosine=float(min(one.min() for one in cosines)),
        largest_error=max(_largest(exact[name] - found[name]) for name in features),
        range=max(_largest(exact[name]) for name in features),
        agreement=agreement,
        classes=distinct,
    )


def _cosines(exact: Array, found: Array) -> Array:
    one, two = (value.reshape(len(value), -1).astype(np.float64) for value in (exact, found))
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
    # Two vectors of zeros are equal; a vector of zeros and another are not alike.
    equal = np.all(one == two, axis=1)
    return np.where(equal, 1.0, (one * two).sum(axis=1) / np.maximum(lengths, _EPSILON))


def _has_classes(value: Array) -> bool:
    """Whether a tensor has one row of scores for each input."""
    return value.dtype.kind == "f" and value.ndim > 1 and value[0].size == max(value.shape[1:]) > 1


def _largest(value: Array) -> float:
    return float(np.abs(value).max(initial=0.0))


def _run(device: Path, inputs: Array) -> tuple[list[str], list[Array]]:
    session = _session(device)
    (given,) = session.get_inputs()
    names = [one.name for one in session.get_outputs()]
    rows = [session.run(names, {given.name: np.ascontiguousarray(row[None])}) for row in inputs]
    return names, [np.concatenate([row[index] for row in rows]) for index in range(len(names))]


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=CPU)
