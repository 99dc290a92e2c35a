"""Why a model could not be converted: what the conversion reports and the AcceleratedModel shows."""

from __future__ import annotations

from typing import Final

from serval_contract.reasons import MODEL_INVALID

MODEL_NOT_CONVERTIBLE: Final = "ModelNotConvertible"
"""The model has something that the device part cannot have, or its device part was not found. Cure: name the
input tensor, or export the model without the operations that the message names."""
ACCURACY_TOO_LOW: Final = "AccuracyTooLow"
"""The quantised network differs from the float one by more than the thresholds allow. Cure: photos like those
of the application for the calibration, lower thresholds, or quantization `Float`."""
CALIBRATION_INVALID: Final = "CalibrationInvalid"
"""There are no inputs to calibrate with, or they do not fit the network. Cure: a folder with photos, or with
arrays for a model that takes numbers."""
CONVERSION_OUT_OF_MEMORY: Final = "ConversionOutOfMemory"
"""A step of the conversion was killed for lack of memory. Cure: the memory that the message names."""
CONVERSION_TIMED_OUT: Final = "ConversionTimedOut"
"""A step of the conversion took longer than allowed. Cure: more CPUs."""
CONVERSION_FAILED: Final = "ConversionFailed"
"""A step of the conversion ended with an error that is none of the above; the message has the end of its
log."""

CONVERSION_REASONS: Final = frozenset(
    {
        MODEL_INVALID,
        MODEL_NOT_CONVERTIBLE,
        ACCURACY_TOO_LOW,
        CALIBRATION_INVALID,
        CONVERSION_OUT_OF_MEMORY,
        CONVERSION_TIMED_OUT,
        CONVERSION_FAILED,
    }
)
"""All reasons that a conversion may report."""
