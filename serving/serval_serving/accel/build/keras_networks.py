"""The networks of the catalogue as Keras models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import tensorflow as tf

from serval_contract.build_reasons import WEIGHTS_DOWNLOAD_FAILED, WEIGHTS_INVALID
from serval_serving.accel.build.failures import failure
from serval_serving.accel.build.ssdvgg import ssd_vgg
from serval_serving.accel.catalogue import Network
from serval_serving.stages.program import StageFailure

IMAGENET: Final = "imagenet"


@dataclass(frozen=True, slots=True)
class KerasNetwork:
    """A network as Keras models that share nothing.

    Attributes
    ----------
    featurizer:
        Preprocessed photos in; the features out, flat, or the list of a detector's outputs.
    classifier:
        Flat features in, scores out; None for a detector.
    """

    featurizer: Any
    classifier: Any | None

    @property
    def layers(self) -> list[Any]:
        """All layers with weights, in Keras' order."""
        models = [self.featurizer, *([self.classifier] if self.classifier is not None else [])]
        return [layer for model in models for layer in model.layers if layer.weights]


Make = Callable[[Network, int | None, str | None], KerasNetwork]
"""Makes a network of the catalogue.

Takes the network, the number of its classes (None for the default classifier's), and `IMAGENET` or None for
random weights.
"""


def make_network(network: Network, classes: int | None, weights: str | None) -> KerasNetwork:
    """Return a network of the catalogue; see `Make`.

    Raises
    ------
    StageFailure
        The weights could not be downloaded.
    """
    if network.classifier is None:
        if weights is not None:
            raise failure(
                WEIGHTS_INVALID, f"there are no published weights of {network.name} for Keras to download"
            )
        return KerasNetwork(ssd_vgg(), None)
    make = _APPLICATIONS[network.name]
    try:
        whole = make(
            weights=weights,
            classes=network.classifier.classes if classes is None else classes,
            classifier_activation=network.classifier.activation,
        )
    except Exception as error:  # Keras raises bare exceptions where a download fails or has another digest
        if weights is None:
            raise
        raise StageFailure(
            WEIGHTS_DOWNLOAD_FAILED,
            f"Keras could not download the weights of {network.name}: {error}",
            permanent=False,
        ) from error
    features = whole.layers[-2].output
    flat = tf.keras.layers.Input(features.shape[1:])
    return KerasNetwork(
        tf.keras.Model(whole.input, features), tf.keras.Model(flat, whole.layers[-1](flat), name="classifier")
    )


_APPLICATIONS: Final[Mapping[str, Callable[..., Any]]] = {
    "ResNet50": tf.keras.applications.ResNet50,
    "ResNet152": tf.keras.applications.ResNet152,
    "DenseNet121": tf.keras.applications.DenseNet121,
    "VGG16": tf.keras.applications.VGG16,
}
