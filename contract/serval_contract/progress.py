"""The progress page of a Job's stage: a small JSON document that the operator reads from time to time.

A stage that has a progress port answers ``GET /progress`` with it. A stage without one simply shows none. The
page says how far the stage is; results are in its termination message.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from serval_contract.report_line import is_integer, is_text, shortened

PROGRESS_PATH: Final = "/progress"
MAX_PAGE_BYTES: Final = 4096
"""More is not read."""
MAX_UNIT: Final = 32
MAX_STAGE: Final = 63


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a stage is.

    Parameters
    ----------
    step:
        What is done, counted in `unit`; None if it is not known.
    steps:
        What there is to do; None if it is not known.
    unit:
        What is counted, in the plural, such as ``epochs``.
    message:
        What the stage does, for the user.
    stage:
        Name of the stage.
    """

    step: int | None = None
    steps: int | None = None
    unit: str = ""
    message: str = ""
    stage: str = ""

    def dump(self) -> str:
        """Return the page, of at most `MAX_PAGE_BYTES`; a long message is cut."""
        page = {
            "stage": self.stage[:MAX_STAGE],
            "step": self.step,
            "steps": self.steps,
            "unit": self.unit[:MAX_UNIT],
            "message": shortened(self.message),
        }
        return json.dumps(page, separators=(",", ":"))

    def words(self) -> str:
        """Return the progress as a message says it, such as ``3 of 10 epochs: loss 0.2``."""
        total = "" if self.steps is None else f" of {self.steps}"
        count = "" if self.step is None else f"{self.step}{total} {self.unit or 'steps'}"
        return ": ".join(part for part in (count, self.message) if part)


def parse_progress(page: str) -> Progress | None:
    """Read a page; None if it is no JSON object. What is not as `Progress` describes it is left out."""
    try:
        fields = json.loads(page) if len(page) <= MAX_PAGE_BYTES else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, Mapping):
        return None
    step, steps, unit = fields.get("step"), fields.get("steps"), fields.get("unit")
    message, stage = fields.get("message"), fields.get("stage")
    return Progress(
        step=step if is_integer(step, least=0) else None,
        steps=steps if is_integer(steps, least=0) else None,
        unit=unit if is_text(unit, MAX_UNIT) else "",
        message=shortened(message) if isinstance(message, str) else "",
        stage=stage if is_text(stage, MAX_STAGE) else "",
    )
