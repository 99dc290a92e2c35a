"""What a build is told, and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from serval_contract.build_reasons import PREPROCESSING_INVALID
from serval_serving.accel.artifact import Preprocessing
from serval_serving.accel.build.failures import failure
from serval_serving.accel.catalogue import ORIGINS, Network, Origin, override_preprocessing

RANDOM: Final = "random"
KERAS_IMAGENET: Final = "keras:imagenet"
ORIGIN_FIELD: Final = "origin"
"""Of the overrides: whose constants to start from, `Azure` or `Keras`."""


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What to build.

    Attributes
    ----------
    featurizer:
        Name of a network of the catalogue.
    weights:
        A path, `RANDOM` or `KERAS_IMAGENET`.
    out:
        Folder of the SavedModel; it must not exist, or be empty.
    preprocessing:
        Overrides: fields of `catalogue.override_preprocessing`, and `ORIGIN_FIELD`.
    classifier:
        The user's own: an ``.npz`` file of `accel.classifiers`, or a Keras model. None for the network's.
    photos:
        Folder with photos for the batch-norm statistics of random weights.
    seed:
        Of random weights.
    source_digest:
        Of the weights, ``sha256:<hex>``, where it is known; else it is computed.
    """

    featurizer: str
    weights: str
    out: Path
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    classifier: Path | None = None
    photos: Path | None = None
    seed: int = 1
    source_digest: str = ""


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What was built, as the stage's report has it.

    Attributes
    ----------
    network:
        Name in the catalogue.
    weights:
        `Random`, `User` or `ImageNet`.
    source_digest:
        ``sha256:<hex>`` of the weights; empty for random and downloaded ones.
    bytes:
        Of the SavedModel.
    classes:
        Of the classifier; 0 for a detector.
    batch_norms:
        How many got statistics from photos.
    photos:
        How many photos these are from.
    peak_bytes:
        The most memory that the process had.
    """

    network: str
    weights: str
    source_digest: str
    bytes: int
    classes: int
    batch_norms: int = 0
    photos: int = 0
    peak_bytes: int = 0


def choose_preprocessing(
    network: Network, default: Origin | Preprocessing, overrides: Mapping[str, Any]
) -> Preprocessing:
    """Return the preprocessing of a build.

    Parameters
    ----------
    network:
        Whose catalogue entry it is.
    default:
        Origin of the weights, or what their SavedModel does.
    overrides:
        See `BuildRequest.preprocessing`.

    Raises
    ------
    StageFailure
        An override cannot be used.
    """
    fields = dict(overrides)
    base = network.preprocessing[default] if isinstance(default, str) else default
    if ORIGIN_FIELD in fields:
        origin = str(fields.pop(ORIGIN_FIELD)).lower()
        if origin not in ORIGINS:
            known = ", ".join(one.capitalize() for one in ORIGINS)
            raise failure(PREPROCESSING_INVALID, f"preprocessing.{ORIGIN_FIELD} is not one of {known}")
        base = network.preprocessing[origin]
    try:
        return override_preprocessing(base, fields)
    except ValueError as error:
        raise failure(PREPROCESSING_INVALID, str(error)) from None
