"""Runs the work of a stage and reports how it ended."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Final

from serval_contract.progress import Progress
from serval_contract.stage_report import StageFile, StageReport
from serval_serving.stages.page import ProgressPage
from serval_serving.stages.termination import TERMINATION_LOG, write_termination_message

_LOG: Final = logging.getLogger("serval.stage")

Report = Callable[[Progress], None]
"""Takes how far the work is."""


class StageFailure(Exception):
    """The work of a stage cannot be done.

    Parameters
    ----------
    reason:
        One word that programs read, as `serval_contract.stage_report.REASON` says.
    message:
        For the user.
    permanent:
        Whether another attempt with the same inputs would fail in the same way.
    """

    def __init__(self, reason: str, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.permanent = permanent


@dataclass(frozen=True, slots=True)
class StageResult:
    """What a stage did, as `serval_contract.stage_report.StageReport` carries it."""

    result: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[StageFile, ...] = ()


def run_stage(
    stage: str,
    work: Callable[[Report], StageResult],
    *,
    progress_port: int = 0,
    termination_log: Path = TERMINATION_LOG,
) -> int:
    """Do the work, leave the report, and return the exit status: 0 done, 1 not.

    Parameters
    ----------
    stage:
        Name of the stage, which is that of its container.
    work:
        Does it. It may raise `StageFailure`.
    progress_port:
        Where the progress page answers; 0 for no page.
    termination_log:
        Where the report goes.
    """
    signal.signal(signal.SIGTERM, _terminated)
    with ExitStack() as stack:
        page = stack.enter_context(ProgressPage(progress_port)) if progress_port else None

        def report(progress: Progress) -> None:
            _LOG.info("%s", progress.words())
            if page is not None:
                page.progress = progress

        try:
            done = work(report)
            line = StageReport(stage, done.result, done.files).dump()
        except StageFailure as failure:
            _LOG.error("%s: %s", failure.reason, failure.message)
            line = _failed(stage, failure.reason, failure.message, permanent=failure.permanent)
        except Exception as error:  # noqa: BLE001 - whatever it is, the operator must learn of it
            _LOG.exception("the stage failed")
            line = _failed(stage, "", f"{type(error).__name__}: {error}", permanent=False)
        else:
            write_termination_message(termination_log, line)
            return 0
    write_termination_message(termination_log, line)
    return 1


def start_logging() -> None:
    """Send the log of a stage to standard error."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)


def _failed(stage: str, reason: str, message: str, *, permanent: bool) -> str:
    return StageReport(stage, reason=reason, message=message, permanent=permanent).dump()


def _terminated(_signal: int, _frame: FrameType | None) -> None:
    """Obey SIGTERM, which the first process of a container ignores by default."""
    raise SystemExit(128 + signal.SIGTERM)
