"""Trimmed views of the Jobs that the operator makes. Parsing is total, as in `snapshots`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from serval_operator.api.snapshots import Identity
from serval_operator.api.unstructured import label, mapping, mappings, owned, parse_time, whole
from serval_operator.constants import LABEL_ATTEMPT, LABEL_INPUTS, LABEL_JOB

COMPLETE = "Complete"
FAILED = "Failed"
FAILURE_TARGET = "FailureTarget"
"""The Job is going to be Failed once its pods have ended."""
_KEPT = (COMPLETE, FAILED, "Suspended", FAILURE_TARGET)


@dataclass(frozen=True, slots=True)
class JobCondition:
    """A condition of a Job that is True."""

    type: str
    reason: str
    message: str
    time: datetime | None


@dataclass(frozen=True, slots=True)
class JobView(Identity):
    """A Job of ours.

    Parameters
    ----------
    job:
        Name of the plan that it carries out, unique within its owner.
    inputs:
        Digest of the inputs.
    attempt:
        How often these inputs were tried, this time included.
    suspended:
        Whether its spec says that no pod may run.
    active, succeeded, failed:
        Numbers of its pods.
    started:
        When it started last; resuming a Job starts it again.
    conditions:
        Those of the types Complete, Failed, Suspended and FailureTarget that are True.
    """

    job: str
    inputs: str
    attempt: int
    suspended: bool
    active: int
    succeeded: int
    failed: int
    started: datetime | None
    conditions: tuple[JobCondition, ...]

    @property
    def finished(self) -> bool:
        """Whether it is Complete or Failed; no pod of it runs then, and none will."""
        return any(one.type in {COMPLETE, FAILED} for one in self.conditions)

    def condition(self, kind: str) -> JobCondition | None:
        """The condition of a type; None if it is not True."""
        return next((one for one in self.conditions if one.type == kind), None)


def parse_job(obj: Mapping[str, Any]) -> JobView:
    """View of a Job. It belongs to its controller."""
    meta, spec, status = mapping(obj, "metadata"), mapping(obj, "spec"), mapping(obj, "status")
    attempt = label(meta, LABEL_ATTEMPT)
    return JobView(
        **owned(meta),
        job=label(meta, LABEL_JOB),
        inputs=label(meta, LABEL_INPUTS),
        attempt=int(attempt) if attempt.isascii() and attempt.isdecimal() and len(attempt) < 4 else 0,
        suspended=spec.get("suspend") is True,
        active=whole(status.get("active")),
        succeeded=whole(status.get("succeeded")),
        failed=whole(status.get("failed")),
        started=parse_time(status.get("startTime")),
        conditions=tuple(
            JobCondition(
                type=str(one["type"]),
                reason=str(one.get("reason", "")),
                message=str(one.get("message", "")),
                time=parse_time(one.get("lastTransitionTime")),
            )
            for one in mappings(status, "conditions")
            if one.get("type") in _KEPT and one.get("status") == "True"
        ),
    )
