"""How a build fails."""

from __future__ import annotations

from serval_serving.stages.program import StageFailure


def failure(reason: str, message: str) -> StageFailure:
    """Return a failure that another attempt with the same inputs would repeat.

    Parameters
    ----------
    reason:
        One of `serval_contract.build_reasons`.
    message:
        For the user.
    """
    return StageFailure(reason, message, permanent=True)
