"""Constants of preprocessing, by network and by the origin of the weights.

Weights expect the pixels that they were trained on, so the constants depend on where the weights come from:

`azure`
    What Azure ML's accelerated models did before the featurizer (package azureml-accel-models 1.62, and the
    notebooks of the accelerated models). Also used for random weights, which expect nothing.
`keras`
    What `keras.applications` expects: its mode `caffe` for ResNet and VGG, its mode `torch` for DenseNet.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Literal, get_args

from serval_serving.accel.artifact import Interpolation, Order, Preprocessing, Resize

Origin = Literal["azure", "keras"]
ORIGINS: Final[tuple[Origin, ...]] = get_args(Origin)

SHORTER_SIDE: Final = 256
"""Azure resizes to this and cuts the centre of 224x224 out; it is also the usual evaluation on ImageNet."""

_Channels = tuple[float, float, float]
_RGB_MEANS: Final[_Channels] = (123.68, 116.779, 103.939)
"""Means of ImageNet of red, green and blue: Azure's preprocessing, and mode `caffe` of Keras."""
_TORCH_MEANS: Final[_Channels] = (0.485, 0.456, 0.406)
_TORCH_DEVIATIONS: Final[_Channels] = (0.229, 0.224, 0.225)
"""Mode `torch` of Keras, for red, green and blue from 0 to 1."""


def classification(order: Order, means: _Channels, scales: _Channels) -> Preprocessing:
    """Return the preprocessing of a classifier's network: shorter side 256, centre 224x224."""
    return Preprocessing(224, 224, "ShorterSide", SHORTER_SIDE, order, means, scales)


def detection(order: Order, means: _Channels) -> Preprocessing:
    """Return the preprocessing of SSD: the whole image at 300x300; the aspect is not kept."""
    return Preprocessing(300, 300, "Stretch", 0, order, means, (1.0, 1.0, 1.0))


CAFFE: Final[Mapping[Origin, Preprocessing]] = {
    # The default order of Azure's preprocessing is RGB, its default factor 1.
    "azure": classification("RGB", _RGB_MEANS, (1.0, 1.0, 1.0)),
    "keras": classification("BGR", _RGB_MEANS[::-1], (1.0, 1.0, 1.0)),
}
"""ResNet50, ResNet152 and VGG16."""

DENSENET: Final[Mapping[Origin, Preprocessing]] = {
    # Azure's notebook of DenseNet gives the factor 0.017; the reciprocal of 255 times 0.229 is 0.0171.
    "azure": classification("RGB", _RGB_MEANS, (0.017, 0.017, 0.017)),
    "keras": classification(
        "RGB",
        (255 * _TORCH_MEANS[0], 255 * _TORCH_MEANS[1], 255 * _TORCH_MEANS[2]),
        (
            1 / (255 * _TORCH_DEVIATIONS[0]),
            1 / (255 * _TORCH_DEVIATIONS[1]),
            1 / (255 * _TORCH_DEVIATIONS[2]),
        ),
    ),
}

SSD: Final[Mapping[Origin, Preprocessing]] = {
    "azure": detection("RGB", _RGB_MEANS),
    # A detector trained in Keras starts from the convolutions of Keras' VGG16, which expect mode `caffe`.
    "keras": detection("BGR", _RGB_MEANS[::-1]),
}

_WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "resize": get_args(Resize),
    "order": get_args(Order),
    "interpolation": get_args(Interpolation),
}
_SHORTER_SIDE_FIELD: Final = "shorterSide"
_FIELDS: Final = (*_WORDS, _SHORTER_SIDE_FIELD, "means", "scales")
MAX_SIDE: Final = 4096


def override_preprocessing(base: Preprocessing, fields: Mapping[str, Any]) -> Preprocessing:
    """Return `base` with some fields replaced.

    Parameters
    ----------
    base:
        Preprocessing of the catalogue. Its size stays, because it is the network's.
    fields:
        Any of `resize`, `shorterSide`, `interpolation`, `order`, `means` and `scales`. Where `order` changes,
        means and scales that are not given stay with their colours.

    Raises
    ------
    ValueError
        A field is unknown or has a value that cannot be used; the message names it.
    """
    for name in fields:
        if name not in _FIELDS:
            raise ValueError(f"preprocessing has no field {name!r}; there are {', '.join(_FIELDS)}")
    changes: dict[str, Any] = {name: _word(name, fields[name]) for name in _WORDS if name in fields}
    if changes.get("order", base.order) != base.order:
        changes |= {"means": base.means[::-1], "scales": base.scales[::-1]}
    for name in ("means", "scales"):
        if name in fields:
            changes[name] = _channels(name, fields[name])
    if _SHORTER_SIDE_FIELD in fields:
        changes["shorter_side"] = _shorter_side(fields[_SHORTER_SIDE_FIELD])
    changed: Preprocessing = replace(base, **changes)
    if changed.resize == "ShorterSide" and changed.shorter_side < max(base.height, base.width):
        raise ValueError(
            f"preprocessing.{_SHORTER_SIDE_FIELD} is {changed.shorter_side}, less than the network's input of"
            f" {base.height}x{base.width}"
        )
    return changed


def _word(name: str, value: object) -> str:
    if value not in _WORDS[name]:
        raise ValueError(f"preprocessing.{name} is {value!r}, not one of {', '.join(_WORDS[name])}")
    return str(value)


def _channels(name: str, value: object) -> _Channels:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 3:
        raise ValueError(f"preprocessing.{name} is {value!r}, not a list of three numbers")
    for one in value:
        if not isinstance(one, int | float) or isinstance(one, bool) or not math.isfinite(one):
            raise ValueError(f"preprocessing.{name} has {one!r}, which is no finite number")
    first, second, third = value
    return float(first), float(second), float(third)


def _shorter_side(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_SIDE:
        raise ValueError(
            f"preprocessing.{_SHORTER_SIDE_FIELD} is {value!r}, not a whole number up to {MAX_SIDE}"
        )
    return value
