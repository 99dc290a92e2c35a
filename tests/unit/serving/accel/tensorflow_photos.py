"""Decodes and preprocesses photos by TensorFlow's own operators. Run as a program: it imports TensorFlow.

python tensorflow_photos.py OUT.npz
"""

from __future__ import annotations

import os
import sys
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from serval_serving.accel.artifact import Preprocessing
from unit.serving.accel.photo_files import kinds, sizes
from unit.serving.accel.preprocessings import PREPROCESSINGS

v1 = tf.compat.v1


def decoded(data: bytes) -> Any:
    return tf.io.decode_jpeg(data, 3, dct_method="INTEGER_ACCURATE")


def preprocessed(data: bytes, how: Preprocessing) -> Any:
    """As Azure's graph does it: the whole photo is resized, then cut."""
    image = tf.cast(decoded(data), tf.float32)
    size = tf.constant([how.height, how.width])
    whole = size
    if how.resize == "ShorterSide":
        shape = tf.cast(tf.shape(image)[:2], tf.float32)
        whole = tf.cast(shape * (float(how.shorter_side) / tf.reduce_min(shape)), tf.int32)
    resize = v1.image.resize_bicubic if how.interpolation == "Bicubic" else v1.image.resize_bilinear
    image = resize(image[tf.newaxis], whole, align_corners=False)[0]
    image = tf.slice(image, tf.concat([(whole - size) // 2, [0]], 0), [how.height, how.width, 3])
    if how.order == "BGR":
        image = tf.reverse(image, [2])
    return (image - tf.constant(how.means)) * tf.constant(how.scales)


def main() -> None:
    results = {f"decoded/{kind}": decoded(data).numpy() for kind, data in kinds().items()}
    for name, how in PREPROCESSINGS.items():
        for size, data in sizes().items():
            results[f"{name}/{size}"] = preprocessed(data, how).numpy()
    np.savez(sys.argv[1], **results)


if __name__ == "__main__":
    main()
