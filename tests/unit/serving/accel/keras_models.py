"""Networks of Keras as it exports them: SavedModels of TensorFlow 2 that take numbers.

``python -m unit.serving.accel.keras_models NAME FOLDER`` writes one in a process of its own, since the large
ones take gigabytes.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import tensorflow as tf

SMALL = "Small"
SIZES = {SMALL: 24, "DenseNet121": 224, "ResNet50": 224, "ResNet152": 224, "VGG16": 224}
"""Networks, and the side of their input."""


def write(name: str, folder: Path) -> None:
    """Write a network with random weights."""
    model = small() if name == SMALL else getattr(tf.keras.applications, name)(weights=None)
    # Writes the archive of a model of the functional API, without the metadata of Keras.
    archive = tf.keras.export.ExportArchive()
    archive.track(model)
    side = SIZES[name]
    archive.add_endpoint(
        name="serve",
        fn=lambda x: model(x, training=False),
        input_signature=[tf.TensorSpec([None, side, side, 3], tf.float32, name="x")],
    )
    archive.write_out(str(folder))


def small() -> Any:
    """What large networks consist of: batch normalisation, depthwise convolutions, residuals, pools."""
    layers = tf.keras.layers
    x = given = tf.keras.Input([SIZES[SMALL]] * 2 + [3])
    x = layers.ZeroPadding2D(1)(x)
    x = layers.Conv2D(8, 3, strides=2, use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    x = first = layers.ReLU(6.0)(x)
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    x = layers.Activation("relu")(x)
    x = layers.Conv2D(8, 1)(x)
    x = layers.Add()([x, first])
    x = layers.Concatenate()([layers.MaxPooling2D(2)(x), layers.AveragePooling2D(2)(x)])
    x = layers.Conv2D(16, 3, dilation_rate=2, padding="same", activation="relu")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return tf.keras.Model(given, layers.Dense(5, activation="softmax")(x))


if __name__ == "__main__":
    write(sys.argv[1], Path(sys.argv[2]))
