"""The user's own classifier as a Keras model."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, Final

import tensorflow as tf

from serval_contract.build_reasons import CLASSIFIER_INVALID
from serval_serving.accel.build.compose import dense
from serval_serving.accel.build.failures import failure
from serval_serving.accel.catalogue import Network
from serval_serving.accel.classifiers import load_classifier

_KERAS_SUFFIXES: Final = frozenset({".keras", ".h5"})


def own_classifier(path: Path, entry: Network) -> Any:
    """Return a Keras model: flat features of the network in, scores out.

    Parameters
    ----------
    path:
        An ``.npz`` file of `accel.classifiers`, or a Keras model. Of a Keras model no Python code is loaded.
    entry:
        Whose features it takes.

    Raises
    ------
    StageFailure
        It cannot be read, or does not fit the features.
    """
    try:
        channels = entry.channels
        if path.suffix in _KERAS_SUFFIXES:
            model = tf.keras.models.load_model(path, compile=False, safe_mode=True)
            return _flat(model, channels, entry.name)
        found = load_classifier(path)
    except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile) as error:
        raise failure(CLASSIFIER_INVALID, f"the classifier cannot be used: {error}") from None
    if found.kernel.shape[0] != channels:
        raise failure(
            CLASSIFIER_INVALID,
            f"the classifier takes {found.kernel.shape[0]} features; {entry.name} has {channels}",
        )
    return dense(found.kernel, found.bias, found.activation)


def _flat(model: Any, channels: int, name: str) -> Any:
    """Return the model with one row of features as its input."""
    inputs, outputs = ([list(one.shape[1:]) for one in ends] for ends in (model.inputs, model.outputs))
    if inputs not in ([[channels]], [[1, 1, channels]]) or [len(one) for one in outputs] != [1]:
        raise failure(
            CLASSIFIER_INVALID,
            f"the classifier takes {inputs} and gives {outputs}; for {name} it has to take"
            f" [{channels}] and to give one row of scores",
        )
    flat = tf.keras.layers.Input((channels,))
    return tf.keras.Model(flat, model(tf.keras.layers.Reshape(model.inputs[0].shape[1:])(flat)))
