"""The health verdict that a GitOps tool shows for a ModelDeployment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serval_operator.api.conditions import find
from serval_operator.constants import READY
from serval_operator.reason_rows import Health
from serval_operator.reasons import REASONS


def health(status: Mapping[str, Any], *, generation: int) -> Health:
    """Judge a stored status.

    Parameters
    ----------
    generation:
        `metadata.generation` of the same object.

    Notes
    -----
    The verdict is that of the reason of `Ready`. A status of an older generation says nothing about the
    newest spec, so it is Progressing, and so is a reason that this version does not know. kstatus alone is
    not enough: it calls every failure that a retry can cure "in progress", and a GitOps tool would wait
    without end.
    """
    if status.get("observedGeneration") != generation:
        return Health.PROGRESSING
    row = REASONS.get(find(status.get("conditions", ()), READY).get("reason", ""))
    return row.health if row else Health.PROGRESSING
