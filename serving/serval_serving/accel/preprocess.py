"""The host part of catalogue networks: encoded photos to a network's input, by Pillow and numpy.

The values are those of TensorFlow 1: `resize_bilinear` or `resize_bicubic` with corners not aligned and no
half-pixel centres, then the centre, then ``(x - means) * scales``. Only the centre is interpolated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from serval_serving.accel.artifact import Preprocessing
from serval_serving.accel.photos import MAX_PIXELS, decode_photo

Floats = NDArray[np.float32]

CUBIC: Final = -0.75
"""The kernel's parameter in TensorFlow 1's bicubic interpolation."""
CUBIC_STEPS: Final = 1024
"""TensorFlow takes the kernel from a table of that number of positions between two pixels."""


@dataclass(frozen=True, slots=True)
class Taps:
    """Where the pixels of a resized side come from.

    Attributes
    ----------
    indices:
        int [taps, size]: source pixels.
    weights:
        float32 [taps, size]: their weights.
    """

    indices: NDArray[np.intp]
    weights: Floats


def preprocess(
    photos: Sequence[bytes], preprocessing: Preprocessing, *, max_pixels: int = MAX_PIXELS
) -> Floats:
    """Return the network's input of encoded photos: float32 [N, height, width, 3].

    Parameters
    ----------
    photos:
        JPEGs or PNGs of any size, in any number.
    preprocessing:
        What the network expects.
    max_pixels:
        Of one photo.

    Raises
    ------
    ValueError
        A photo cannot be used; the message says which, counted from 0, and why.
    """
    batch = np.empty((len(photos), preprocessing.height, preprocessing.width, 3), np.float32)
    for index, data in enumerate(photos):
        try:
            batch[index] = network_input(decode_photo(data, max_pixels=max_pixels), preprocessing)
        except ValueError as error:
            raise ValueError(f"photo {index}: {error}") from None
    return batch


def network_input(pixels: NDArray[np.uint8], preprocessing: Preprocessing) -> Floats:
    """Return the input of one decoded photo, float32 [height, width, 3].

    Parameters
    ----------
    pixels:
        Red, green and blue, uint8 [any, any, 3].
    preprocessing:
        What the network expects.
    """
    rows, columns = crop_taps(pixels.shape[0], pixels.shape[1], preprocessing)
    image = _interpolate(pixels, rows, columns)
    if preprocessing.order == "BGR":
        image = image[..., ::-1]
    means, scales = (np.asarray(one, np.float32) for one in (preprocessing.means, preprocessing.scales))
    result: Floats = (image - means) * scales
    return result


def resized(height: int, width: int, preprocessing: Preprocessing) -> tuple[int, int]:
    """Return the size of the whole resized photo, of which the network sees the centre.

    The arithmetic is that of Azure's graph: float32, and the product is cut to a whole number.
    """
    if preprocessing.resize == "Stretch":
        return preprocessing.height, preprocessing.width
    factor = np.float32(preprocessing.shorter_side) / np.float32(min(height, width))
    # Rounding may make the shorter side one pixel less than it should be, which may be less than the crop.
    return (
        max(int(np.float32(height) * factor), preprocessing.height),
        max(int(np.float32(width) * factor), preprocessing.width),
    )


def crop_taps(height: int, width: int, preprocessing: Preprocessing) -> tuple[Taps, Taps]:
    """Return the sources of the rows and of the columns of a network's input.

    Parameters
    ----------
    height, width:
        Of the photo.
    preprocessing:
        What the network expects.
    """
    sides = zip(
        (height, width),
        resized(height, width, preprocessing),
        (preprocessing.height, preprocessing.width),
        strict=True,
    )
    taps = _cubic_taps if preprocessing.interpolation == "Bicubic" else _linear_taps
    rows, columns = (taps(source, whole, crop) for source, whole, crop in sides)
    return rows, columns


def _positions(source: int, whole: int, crop: int) -> tuple[NDArray[np.intp], Floats]:
    """Return the pixel before each position, and how far behind it the position is, from 0 to 1."""
    offset = (whole - crop) // 2
    scale = np.float32(source) / np.float32(whole)
    positions = np.arange(offset, offset + crop).astype(np.float32) * scale
    before = np.floor(positions)
    return before.astype(np.intp), positions - before


def _linear_taps(source: int, whole: int, crop: int) -> Taps:
    before, behind = _positions(source, whole, crop)
    indices = np.stack([before, before + 1]).clip(0, source - 1)
    return Taps(indices, np.stack([1 - behind, behind]))


def _cubic_taps(source: int, whole: int, crop: int) -> Taps:
    before, behind = _positions(source, whole, crop)
    step = np.rint(behind * CUBIC_STEPS) / CUBIC_STEPS
    distances = np.stack([step + 1, step, 1 - step, 2 - step]).astype(np.float64)
    indices = np.stack([before - 1, before, before + 1, before + 2]).clip(0, source - 1)
    return Taps(indices, _cubic_kernel(distances).astype(np.float32))


def _cubic_kernel(distance: NDArray[Any]) -> NDArray[Any]:
    """Return Keys' cubic convolution kernel at distances from 0 to 2."""
    near, far = cubic_pieces(distance)
    kernel: NDArray[Any] = np.where(distance <= 1, near, far)
    return kernel


def cubic_pieces(distance: Any) -> tuple[Any, Any]:
    """Return both polynomials of Keys' kernel: up to a distance of 1, and from there to 2."""
    near = ((CUBIC + 2) * distance - (CUBIC + 3)) * distance * distance + 1
    far = ((CUBIC * distance - 5 * CUBIC) * distance + 8 * CUBIC) * distance - 4 * CUBIC
    return near, far


def _interpolate(pixels: NDArray[np.uint8], rows: Taps, columns: Taps) -> Floats:
    """Return the weighted sums of pixels, columns first, as float32 [rows, columns, 3]."""
    result = np.zeros((rows.indices.shape[1], columns.indices.shape[1], 3), np.float32)
    for row, row_weights in zip(rows.indices, rows.weights, strict=True):
        strip = pixels[row]
        line = np.zeros_like(result)
        for column, column_weights in zip(columns.indices, columns.weights, strict=True):
            line += strip[:, column] * column_weights[:, np.newaxis]
        result += line * row_weights[:, np.newaxis, np.newaxis]
    return result
