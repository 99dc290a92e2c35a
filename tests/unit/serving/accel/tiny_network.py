"""A network of a few hundred weights in the shape of the catalogue's, for tests of the build."""

from __future__ import annotations

from typing import Any

from serval_serving.accel.artifact import Preprocessing, Tensor
from serval_serving.accel.catalogue import DefaultClassifier, Network

CHANNELS = 6
CLASSES = 5
_MEANS = (10.0, 20.0, 30.0)
_SCALES = (1 / 64, 1 / 64, 1 / 64)
TINY = Network(
    name="ResNet50",  # any name of the catalogue
    input=Tensor("InputImage:0", "float32", (None, 16, 16, 3)),
    features=(Tensor("brainwave_target_node_1_Version_0.1:0", "float32", (None, 1, 1, CHANNELS)),),
    classifier=DefaultClassifier(
        "classifier/tiny/predictions/Softmax:0", classes=CLASSES, also=("classifier_1/tiny/copy:0",)
    ),
    parameters=0,
    preprocessing={
        "azure": Preprocessing(16, 16, "ShorterSide", 20, "RGB", _MEANS, _SCALES),
        "keras": Preprocessing(16, 16, "ShorterSide", 20, "BGR", _MEANS[::-1], _SCALES),
    },
)


def find(name: str) -> Network:
    """The catalogue with one network."""
    if name != TINY.name:
        raise ValueError(f"there is no network {name!r}")
    return TINY


def make(entry: Network, classes: int | None, weights: str | None) -> Any:
    """As `keras_networks.make_network`."""
    import tensorflow as tf  # noqa: PLC0415

    from serval_serving.accel.build.keras_networks import KerasNetwork  # noqa: PLC0415

    assert entry is TINY
    assert weights is None
    whole = whole_network(CLASSES if classes is None else classes)
    flat = tf.keras.layers.Input((CHANNELS,))
    return KerasNetwork(
        tf.keras.Model(whole.input, whole.layers[-2].output), tf.keras.Model(flat, whole.layers[-1](flat))
    )


def whole_network(classes: int = CLASSES, suffix: str = "", filters: int = 4) -> Any:
    """The network with its classifier; `suffix` changes the names of all layers."""
    import tensorflow as tf  # noqa: PLC0415

    layers = tf.keras.layers
    images = layers.Input((16, 16, 3))
    x = layers.Conv2D(filters, 3, strides=2, name=f"first{suffix}")(images)
    x = layers.BatchNormalization(name=f"norm{suffix}")(x)
    x = layers.ReLU(name=f"relu{suffix}")(x)
    x = layers.Conv2D(CHANNELS, 3, name=f"second{suffix}")(x)
    x = layers.GlobalAveragePooling2D(name=f"pool{suffix}")(x)
    return tf.keras.Model(images, layers.Dense(classes, activation="softmax", name=f"predictions{suffix}")(x))
