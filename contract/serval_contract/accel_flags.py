"""Flags of the stages that build, convert and push an accelerated model.

The ``--help`` of each program explains its own.
"""

from __future__ import annotations

from typing import Final

from serval_contract.flags import Flag, Switch

BUILD_PROGRAM: Final = "serval_serving.accel.build.stage"
CONVERT_PROGRAM: Final = "serval_serving.accel.convert.stage"
PUSH_PROGRAM: Final = "serval_serving.artifacts.push_stage"
"""Python modules to run with ``python3 -m``, one for each stage."""

# All stages.
PROGRESS_PORT: Final[Flag[int]] = Flag("progress-port")
"""Where the stage answers `serval_contract.progress.PROGRESS_PATH`; absent or 0 for no page."""
OUT: Final[Flag[str]] = Flag("out")
"""Folder that the stage makes."""

# Build.
FEATURIZER: Final[Flag[str]] = Flag("featurizer")
WEIGHTS: Final[Flag[str]] = Flag("weights")
"""A path, ``random`` or ``keras:imagenet``."""
PREPROCESSING: Final[Flag[str]] = Flag("preprocessing")
"""Overrides of the catalogue's preprocessing, as JSON."""
SOURCE_DIGEST: Final[Flag[str]] = Flag("source-digest")
CLASSIFIER: Final[Flag[str]] = Flag("classifier")
"""A file with a classifier that takes the place of the network's."""
SEED: Final[Flag[int]] = Flag("seed")
"""Of random weights."""

# Convert.
SAVED_MODEL: Final[Flag[str]] = Flag("saved-model")
INPUTS: Final[Flag[str]] = Flag("inputs")
"""Explicit inputs as JSON: a list of objects with `name` and `shape`."""
OUTPUTS: Final[Flag[str]] = Flag("outputs")
QUANTIZATION: Final[Flag[str]] = Flag("quantization")
CALIBRATION: Final[Flag[str]] = Flag("calibration")
"""Folder with photos for the calibration."""
MIN_COSINE: Final[Flag[float]] = Flag("min-cosine")
MIN_AGREEMENT: Final[Flag[float]] = Flag("min-agreement")
"""Thresholds from 0 to 1 below which the conversion fails as `AccuracyTooLow`."""

# Push.
ARTIFACT: Final[Flag[str]] = Flag("artifact")
REPOSITORY: Final[Flag[str]] = Flag("repository")
TAG: Final[Flag[str]] = Flag("tag")
CACHE_KEY: Final[Flag[str]] = Flag("cache-key")
STORE: Final[Flag[str]] = Flag("store")
"""Folder of a mounted claim that takes the place of a registry."""
PLAIN_HTTP: Final = Switch("plain-http")
