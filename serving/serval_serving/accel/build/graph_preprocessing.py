"""The preprocessing of `serval_serving.accel.preprocess` as operators of TensorFlow.

Rows and columns of the crop are gathered from the decoded bytes and only these are interpolated, so a photo
of 1x60000 pixels, whose resized whole would have 256x15,360,000, costs no more than another.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from serval_serving.accel.artifact import Preprocessing
from serval_serving.accel.preprocess import CUBIC_STEPS, cubic_pieces


def preprocess_in_graph(images: Any, preprocessing: Preprocessing) -> Any:
    """Return the network's input, float32 [N, height, width, 3], of encoded photos, string [N]."""
    shape = [preprocessing.height, preprocessing.width, 3]
    batch = tf.map_fn(
        lambda data: _network_input(data, preprocessing),
        images,
        fn_output_signature=tf.TensorSpec(shape, tf.float32),
    )
    return tf.reshape(batch, [-1, *shape])


def _network_input(data: Any, preprocessing: Preprocessing) -> Any:
    # The default transform is faster, and differs from all other decoders.
    pixels = tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")  # reads PNG too
    size = tf.shape(pixels)[:2]
    height, width = preprocessing.height, preprocessing.width
    if preprocessing.resize == "Stretch":
        whole = tf.constant([height, width])
    else:
        sides = tf.cast(size, tf.float32)
        factor = tf.constant(float(preprocessing.shorter_side)) / tf.reduce_min(sides)
        whole = tf.maximum(tf.cast(sides * factor, tf.int32), [height, width])
    taps = _cubic_taps if preprocessing.interpolation == "Bicubic" else _linear_taps
    rows = taps(size[0], whole[0], height)
    columns = taps(size[1], whole[1], width)
    image = tf.zeros([height, width, 3])
    for row, row_weights in rows:
        strip = tf.gather(pixels, row)
        line = tf.add_n(
            [
                tf.cast(tf.gather(strip, column, axis=1), tf.float32) * weights[:, tf.newaxis]
                for column, weights in columns
            ]
        )
        image += line * row_weights[:, tf.newaxis, tf.newaxis]
    if preprocessing.order == "BGR":
        image = tf.reverse(image, [-1])
    return (image - tf.constant(preprocessing.means)) * tf.constant(preprocessing.scales)


def _positions(source: Any, whole: Any, crop: int) -> tuple[Any, Any]:
    """Return the pixel before each position, and how far behind it the position is."""
    offset = (whole - crop) // 2
    scale = tf.cast(source, tf.float32) / tf.cast(whole, tf.float32)
    positions = tf.cast(tf.range(crop) + offset, tf.float32) * scale
    before = tf.floor(positions)
    return tf.cast(before, tf.int32), positions - before


def _linear_taps(source: Any, whole: Any, crop: int) -> list[tuple[Any, Any]]:
    before, behind = _positions(source, whole, crop)
    return [
        (tf.minimum(before + step, source - 1), weight) for step, weight in ((0, 1 - behind), (1, behind))
    ]


def _cubic_taps(source: Any, whole: Any, crop: int) -> list[tuple[Any, Any]]:
    before, behind = _positions(source, whole, crop)
    behind = tf.round(behind * CUBIC_STEPS) / CUBIC_STEPS
    distances = ((-1, behind + 1), (0, behind), (1, 1 - behind), (2, 2 - behind))
    return [
        (tf.clip_by_value(before + step, 0, source - 1), _cubic_kernel(distance))
        for step, distance in distances
    ]


def _cubic_kernel(distance: Any) -> Any:
    near, far = cubic_pieces(distance)
    return tf.where(distance <= 1, near, far)
