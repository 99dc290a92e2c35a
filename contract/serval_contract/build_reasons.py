"""Why a model could not be built from a featurizer and weights: what the build reports."""

from __future__ import annotations

from typing import Final

from serval_contract.conversion_reasons import CALIBRATION_INVALID

FEATURIZER_UNKNOWN: Final = "FeaturizerUnknown"
"""The catalogue has no network of that name. Cure: a name of docs/networks.md, or explicit inputs."""
WEIGHTS_NOT_FOUND: Final = "WeightsNotFound"
"""There are no weights at the path, or several that could be meant. Cure: the path of the file itself."""
WEIGHTS_INVALID: Final = "WeightsInvalid"
"""The weights are in no format that is read, or damaged. Cure: a Keras file, a SavedModel or a checkpoint."""
WEIGHTS_MISMATCH: Final = "WeightsMismatch"
"""A layer is missing from the weights, or its arrays have other shapes. Cure: weights of this network."""
SLIM_CHECKPOINT: Final = "SlimCheckpoint"
"""The weights are a TF-Slim checkpoint, whose graph is another one. Cure: weights that Keras trained."""
WEIGHTS_DOWNLOAD_FAILED: Final = "WeightsDownloadFailed"
"""The published weights cannot be downloaded, or have another digest. Cure: network access, or a file."""
CLASSIFIER_INVALID: Final = "ClassifierInvalid"
"""The user's classifier cannot be read, or does not fit the features. Cure: train it on this featurizer."""
PREPROCESSING_INVALID: Final = "PreprocessingInvalid"
"""An override of the preprocessing cannot be used. Cure: the field that the message names."""

BUILD_REASONS: Final = frozenset(
    {
        FEATURIZER_UNKNOWN,
        WEIGHTS_NOT_FOUND,
        WEIGHTS_INVALID,
        WEIGHTS_MISMATCH,
        SLIM_CHECKPOINT,
        WEIGHTS_DOWNLOAD_FAILED,
        CLASSIFIER_INVALID,
        PREPROCESSING_INVALID,
        CALIBRATION_INVALID,
    }
)
"""All reasons that a build may report."""
