"""Batch-norm statistics for random weights.

A fresh batch norm changes nothing, so over 50 layers the activations of random weights grow or vanish until
all photos give the same class. One pass over some photos sets each moving mean and variance to those of the
photos.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

MAX_PHOTOS: Final = 16
"""Of the pass: one batch, so that its memory is bounded."""


def set_statistics(model: Any, inputs: NDArray[np.float32]) -> int:
    """Set the statistics of all batch norms of a Keras model.

    Parameters
    ----------
    model:
        Its other weights do not change.
    inputs:
        Preprocessed photos [N, height, width, 3], of which the first `MAX_PHOTOS` count.

    Returns
    -------
    How many batch norms there are.
    """
    norms = _batch_norms(model.layers)
    if not norms:
        return 0
    momenta = [norm.momentum for norm in norms]
    try:
        for norm in norms:
            norm.momentum = 0.0  # the statistics become those of the batch
        # A graph frees each activation after its last use; eager execution would keep them all.
        tf.function(lambda x: model(x, training=True))(tf.constant(inputs[:MAX_PHOTOS]))
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    return len(norms)


def _batch_norms(layers: Sequence[Any]) -> list[Any]:
    return [layer for layer in layers if isinstance(layer, tf.keras.layers.BatchNormalization)]
