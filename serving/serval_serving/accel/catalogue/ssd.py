"""SSD-VGG300: heads, anchors, decoding of boxes and non-maximum suppression.

SSD is described by Liu et al., "SSD: Single Shot MultiBox Detector", 2016. The numbers below are those of
Azure's model, which has a first grid of 37 cells where the paper's Caffe model has 38.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from serval_serving.accel.artifact import Tensor

Floats = NDArray[np.float32]

SIDE: Final = 300
"""Pixels of the network's input, each way."""


@dataclass(frozen=True, slots=True)
class Head:
    """A grid of cells that predicts boxes.

    Attributes
    ----------
    block:
        Block of the network that it looks at.
    cells:
        Each way.
    smaller, larger:
        Sides of the square anchors in pixels: `smaller`, and the geometric mean of both.
    ratios:
        Width over height of the other anchors, which have the area of the smaller square.
    step:
        Pixels from one cell to the next. It is not always `SIDE` / `cells`.
    """

    block: int
    cells: int
    smaller: float
    larger: float
    ratios: tuple[float, ...]
    step: int

    @property
    def anchors(self) -> int:
        """Anchors of each cell."""
        return 2 + len(self.ratios)


_TWO: Final = (2.0, 1 / 2)
_FOUR: Final = (2.0, 1 / 2, 3.0, 1 / 3)
HEADS: Final = (
    Head(4, 37, 21, 45, _TWO, 8),
    Head(7, 19, 45, 99, _FOUR, 16),
    Head(8, 10, 99, 153, _FOUR, 32),
    Head(9, 5, 153, 207, _FOUR, 64),
    Head(10, 3, 207, 261, _TWO, 100),
    Head(11, 1, 261, 315, _TWO, 300),
)

CLASSES: Final = (
    "background",
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("dining table", "dog", "horse", "motorbike", "person", "potted plant", "sheep", "sofa", "train"),
    "tv monitor",
)
"""Pascal VOC, in its alphabetical order."""

OUTPUTS: Final = (
    *(
        Tensor(
            f"ssd_300_vgg/block{head.block}_box/Reshape_1:0",
            "float32",
            (None, head.cells, head.cells, head.anchors, len(CLASSES)),
        )
        for head in HEADS
    ),
    *(
        Tensor(
            f"ssd_300_vgg/block{head.block}_box/Reshape:0",
            "float32",
            (None, head.cells, head.cells, head.anchors, 4),
        )
        for head in HEADS
    ),
)
"""First the logits of the classes, then the boxes, in Azure's order and under its names."""

VARIANCES: Final = (0.1, 0.1, 0.2, 0.2)
"""Factors of a box's offsets: x and y of the centre, width and height."""
SCORE_THRESHOLD: Final = 0.5
IOU_THRESHOLD: Final = 0.45
MOST: Final = 400
"""Boxes of an image that take part in the suppression, the best first."""


@dataclass(frozen=True, slots=True)
class Detections:
    """What was found in one image, the best first.

    Attributes
    ----------
    classes:
        int64 [D], indices into `CLASSES`.
    scores:
        float32 [D], from 0 to 1.
    boxes:
        float32 [D, 4]: top, left, bottom, right, from 0 to 1 of the image.
    """

    classes: NDArray[np.int64]
    scores: Floats
    boxes: Floats


def anchors() -> Floats:
    """Return all anchors, float32 [8432, 4]: x and y of the centre, width, height, as parts of the image.

    The order is that of the outputs: head, row, column, anchor of the cell.
    """
    return np.concatenate([_head_anchors(head) for head in HEADS])


def _head_anchors(head: Head) -> Floats:
    middle = math.sqrt(head.smaller * head.larger)
    sides = [(head.smaller, head.smaller), (middle, middle)]
    sides += [(head.smaller * math.sqrt(ratio), head.smaller / math.sqrt(ratio)) for ratio in head.ratios]
    centres = (np.arange(head.cells) + 0.5) * head.step
    boxes = np.empty((head.cells, head.cells, head.anchors, 4))
    boxes[..., 0] = centres[np.newaxis, :, np.newaxis]
    boxes[..., 1] = centres[:, np.newaxis, np.newaxis]
    boxes[..., 2:] = sides
    return (boxes / SIDE).astype(np.float32).reshape(-1, 4)


def decode(offsets: Floats, priors: Floats) -> Floats:
    """Return boxes [..., 4] (top, left, bottom, right) of offsets [..., 4] from anchors [..., 4].

    Parameters
    ----------
    offsets:
        x and y of the centre in sizes of the anchor, logarithms of width and height; each over `VARIANCES`.
    priors:
        As `anchors` gives them.
    """
    scaled = offsets * np.asarray(VARIANCES, np.float32)
    centre = scaled[..., :2] * priors[..., 2:] + priors[..., :2]
    half = np.exp(scaled[..., 2:]) * priors[..., 2:] / 2
    low, high = centre - half, centre + half
    return np.stack([low[..., 1], low[..., 0], high[..., 1], high[..., 0]], axis=-1)


def detections(
    outputs: Mapping[str, NDArray[Any]],
    *,
    score_threshold: float = SCORE_THRESHOLD,
    iou_threshold: float = IOU_THRESHOLD,
    most: int = MOST,
) -> list[Detections]:
    """Return what was found in each image of a batch.

    Parameters
    ----------
    outputs:
        Tensors of `OUTPUTS` by name, or by the aliases ``out_0`` to ``out_11``.
    score_threshold:
        Boxes at or below it are dropped.
    iou_threshold:
        A box that overlaps a better one of its class by more is dropped.
    most:
        Boxes kept before the suppression.

    Raises
    ------
    ValueError
        An output is missing or has another shape than `OUTPUTS` says.
    """
    arrays = [_output(outputs, index, one) for index, one in enumerate(OUTPUTS)]
    count = arrays[0].shape[0]
    if any(one.shape[0] != count for one in arrays):
        raise ValueError("the outputs are of different numbers of images")
    heads = len(HEADS)
    logits = np.concatenate([one.reshape(count, -1, len(CLASSES)) for one in arrays[:heads]], axis=1)
    offsets = np.concatenate([one.reshape(count, -1, 4) for one in arrays[heads:]], axis=1)
    priors = anchors()
    # An offset of a badly trained network may be too large for exp; its box is clipped to the image below.
    with np.errstate(over="ignore", invalid="ignore"):
        boxes = decode(offsets, priors)
    return [
        _of_one_image(_softmax(logits[index]), boxes[index], score_threshold, iou_threshold, most)
        for index in range(count)
    ]


def _output(outputs: Mapping[str, NDArray[Any]], index: int, tensor: Tensor) -> Floats:
    value = outputs.get(tensor.name, outputs.get(f"out_{index}"))
    if value is None:
        raise ValueError(f"the output {tensor.name} (out_{index}) is missing")
    array = np.asarray(value, np.float32)
    if array.shape[1:] != tensor.shape[1:] or array.ndim != len(tensor.shape):
        raise ValueError(f"{tensor.name} has the shape {list(array.shape)}, not {list(tensor.shape)}")
    return array


def _softmax(logits: Floats) -> Floats:
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    normalised: Floats = shifted / shifted.sum(axis=-1, keepdims=True)
    return normalised


def _of_one_image(
    scores: Floats, boxes: Floats, score_threshold: float, iou_threshold: float, most: int
) -> Detections:
    priors, classes = np.nonzero(scores[:, 1:] > score_threshold)
    classes = classes + 1  # 0 is the background
    found = scores[priors, classes]
    best = np.argsort(-found, kind="stable")[:most]
    classes, found = classes[best], found[best]
    clipped = np.clip(np.nan_to_num(boxes[priors[best]]), 0, 1)
    kept = suppress(classes, clipped, iou_threshold)
    return Detections(classes[kept], found[kept], clipped[kept])


def suppress(classes: NDArray[np.int64], boxes: Floats, iou_threshold: float) -> NDArray[np.intp]:
    """Return the indices of boxes that no earlier kept box of their class overlaps by more than a threshold.

    Parameters
    ----------
    classes, boxes:
        [D] and [D, 4], the best first.
    iou_threshold:
        Area of the intersection over area of the union.
    """
    alive = np.ones(len(classes), bool)
    for index in range(len(classes)):
        if alive[index]:
            later = slice(index + 1, None)
            same = classes[later] == classes[index]
            alive[later] &= ~(same & (overlap(boxes[index], boxes[later]) > iou_threshold))
    return np.flatnonzero(alive)


def overlap(box: Floats, others: Floats) -> Floats:
    """Return the intersection of a box [4] with each of [D, 4] over their union; 0 where both are empty."""
    low = np.maximum(box[:2], others[:, :2])
    high = np.minimum(box[2:], others[:, 2:])
    inner = np.prod(np.clip(high - low, 0, None), axis=1)
    union = _area(box[np.newaxis]) + _area(others) - inner
    ratio: Floats = np.divide(inner, union, out=np.zeros_like(inner), where=union > 0)
    return ratio


def _area(boxes: Floats) -> Floats:
    area: Floats = np.prod(np.clip(boxes[:, 2:] - boxes[:, :2], 0, None), axis=1)
    return area
