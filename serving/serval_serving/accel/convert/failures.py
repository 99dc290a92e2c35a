"""How a conversion fails."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from serval_contract.conversion_memory import GIB
from serval_contract.conversion_reasons import (
    ACCURACY_TOO_LOW,
    CALIBRATION_INVALID,
    CONVERSION_FAILED,
    CONVERSION_OUT_OF_MEMORY,
    MODEL_NOT_CONVERTIBLE,
)
from serval_contract.reasons import MODEL_INVALID
from serval_serving.stages.program import StageFailure

NO_MEMORY: Final = "NoMemory"
"""Reason that a child gives its parent, who knows what the conversion needs: see `out_of_memory`."""
_LONGEST: Final = 400
_SHOWN: Final = 8
"""Names in a message."""


def invalid(message: str) -> StageFailure:
    """The files are no SavedModel that can be loaded."""
    return StageFailure(MODEL_INVALID, message, permanent=True)


def not_convertible(message: str) -> StageFailure:
    """The model is good, but no device part can be made of it as it is."""
    return StageFailure(MODEL_NOT_CONVERTIBLE, message, permanent=True)


def bad_calibration(message: str) -> StageFailure:
    """There is nothing that fits to calibrate with."""
    return StageFailure(CALIBRATION_INVALID, message, permanent=True)


def inaccurate(message: str) -> StageFailure:
    """The int8 network is too far from the float one."""
    return StageFailure(ACCURACY_TOO_LOW, message, permanent=True)


def failed(message: str) -> StageFailure:
    """Something went wrong that has no reason of its own."""
    return StageFailure(CONVERSION_FAILED, message, permanent=False)


def out_of_memory(step: str, needed: int, had: int | None, *, cause: str) -> StageFailure:
    """A step was killed, or could not get memory.

    Parameters
    ----------
    needed, had:
        In bytes; None where no limit is known.
    cause:
        What was seen.
    """
    limit = "an unknown amount" if had is None else f"{had / GIB:.1f} GiB"
    message = f"step {step} {cause}: needs {needed / GIB:.1f} GiB, had {limit}"
    return StageFailure(CONVERSION_OUT_OF_MEMORY, message, permanent=had is not None and had < needed)


def one_line(error: Exception) -> str:
    """Return an error's text on one line; those of TensorFlow have many, of which the first says little."""
    text = " ".join(str(error).split())
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."


def listed(names: Iterable[str]) -> str:
    """Return names as a message lists them."""
    names = list(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
