"""SSD-VGG300 in Keras, with the outputs of Azure's SSD-VGG.

The layers are those of Liu et al., "SSD: Single Shot MultiBox Detector", 2016. Azure's shapes determine the
padding: the first three pools leave 37 cells each way, the fourth rounds up to 19. The convolutions of blocks
1 to 5 have the names of Keras' VGG16, so that its weights fit them.
"""

from __future__ import annotations

from typing import Any, Final

import tensorflow as tf

from serval_serving.accel.catalogue.ssd import CLASSES, HEADS, SIDE

_BLOCKS: Final = ((2, 64), (2, 128), (3, 256), (3, 512))
"""Convolutions and filters of VGG's first four blocks."""
_NORM_SCALE: Final = 20.0
"""First value of the learned scale of block 4, from ParseNet."""
_EPSILON: Final = 1e-12

Layers: Final = tf.keras.layers


class _L2Normalization(tf.keras.layers.Layer):  # type: ignore[misc]
    """Divides each cell's channels by their length, and scales each channel by a learned factor."""

    def build(self, shape: Any) -> None:
        self.gamma = self.add_weight(
            name="gamma", shape=(shape[-1],), initializer=tf.keras.initializers.Constant(_NORM_SCALE)
        )

    def call(self, features: Any) -> Any:
        return tf.math.l2_normalize(features, axis=-1, epsilon=_EPSILON) * self.gamma


def ssd_vgg() -> Any:
    """Return the untrained network: [N, 300, 300, 3] in, outputs as `catalogue.ssd.OUTPUTS` lists them."""
    images = Layers.Input((SIDE, SIDE, 3))
    classes: list[Any] = []
    boxes: list[Any] = []
    for head, features in zip(HEADS, _features(images), strict=True):
        for name, size, found in (("classes", len(CLASSES), classes), ("boxes", 4, boxes)):
            flat = Layers.Conv2D(
                head.anchors * size, 3, padding="same", name=f"block{head.block}_{name}_conv"
            )(features)
            shape = (head.cells, head.cells, head.anchors, size)
            found.append(Layers.Reshape(shape, name=f"block{head.block}_{name}")(flat))
    return tf.keras.Model(images, [*classes, *boxes], name="ssd_vgg")


def _features(images: Any) -> list[Any]:
    """Return what the six heads look at, finest first."""
    x = images
    fine = None
    for block, (repeats, filters) in enumerate(_BLOCKS, 1):
        for index in range(1, repeats + 1):
            x = _conv(filters, 3, f"block{block}_conv{index}")(x)
        if block == HEADS[0].block:
            fine = _L2Normalization(name="block4_norm")(x)
        x = Layers.MaxPooling2D(2, padding="same" if block == 4 else "valid", name=f"block{block}_pool")(x)
    for index in range(1, 4):
        x = _conv(512, 3, f"block5_conv{index}")(x)
    x = Layers.MaxPooling2D(3, 1, padding="same", name="block5_pool")(x)
    x = _conv(1024, 3, "block6_conv", dilation_rate=6)(x)
    found = [fine, x := _conv(1024, 1, "block7_conv")(x)]
    for block, narrow, wide in ((8, 256, 512), (9, 128, 256)):
        x = _conv(narrow, 1, f"block{block}_conv1")(x)
        x = Layers.ZeroPadding2D(1, name=f"block{block}_pad")(x)
        found.append(x := _conv(wide, 3, f"block{block}_conv2", padding="valid", strides=2)(x))
    for block in (10, 11):
        x = _conv(128, 1, f"block{block}_conv1")(x)
        found.append(x := _conv(256, 3, f"block{block}_conv2", padding="valid")(x))
    return found


def _conv(filters: int, size: int, name: str, padding: str = "same", **options: Any) -> Any:
    return Layers.Conv2D(filters, size, padding=padding, activation="relu", name=name, **options)
