"""What a status keeps of a Job: the entries of `status.jobs`.

The record decides whether the same inputs run again, so reading it is as lenient as possible: a field that
cannot be used costs that field and not the record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from serval_contract.stage_report import StageFile, parse_files, parse_result
from serval_operator.api.blocks.jobs import JOB_PHASES, MAX_ATTEMPTS, MAX_JOB_NAME, MAX_JOBS, JobPhase
from serval_operator.api.conditions import format_time
from serval_operator.api.text import scrub
from serval_operator.api.unstructured import mappings, parse_time, whole


@dataclass(frozen=True, slots=True)
class JobRecord:
    """What became of the newest Job of a plan.

    Parameters
    ----------
    name:
        Name of the plan.
    inputs:
        Digest of its inputs.
    attempt:
        How often these inputs were tried, the current attempt included.
    phase:
        Succeeded and Failed are final. A failed attempt after which another one follows is Pending, with the
        time of the failure as its `completed`.
    started, completed:
        When the attempt started, and when it succeeded or failed; aware UTC times of whole seconds.
    result, files:
        What its stages reported.
    """

    name: str
    inputs: str
    attempt: int = 1
    phase: JobPhase = "Pending"
    started: datetime | None = None
    completed: datetime | None = None
    reason: str = ""
    message: str = ""
    result: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[StageFile, ...] = ()

    @property
    def final(self) -> bool:
        """Whether these inputs never run again."""
        return self.phase in {"Succeeded", "Failed"}

    @property
    def settled(self) -> int:
        """Number of the last attempt whose end is recorded."""
        return self.attempt if self.final or self.completed else self.attempt - 1

    def as_json(self) -> dict[str, Any]:
        """Return the record as an entry of `status.jobs`."""
        fields = {
            "name": self.name,
            "inputs": self.inputs,
            "attempt": self.attempt,
            "phase": self.phase,
            "startTime": format_time(self.started) if self.started else "",
            "completionTime": format_time(self.completed) if self.completed else "",
            "reason": self.reason,
            "message": self.message,
            "result": dict(self.result),
            "files": [one.fields() for one in self.files],
        }
        return {name: value for name, value in fields.items() if value}


def parse_records(status: Mapping[str, Any]) -> tuple[JobRecord, ...]:
    """Read the records of a status; entries without name or inputs say nothing and are left out."""
    entries = [one for one in mappings(status, "jobs") if _text(one, "name") and _text(one, "inputs")]
    return tuple(_record(one) for one in entries[:MAX_JOBS])


def _record(entry: Mapping[str, Any]) -> JobRecord:
    phase: JobPhase = next((one for one in JOB_PHASES if one == entry.get("phase")), "Pending")
    return JobRecord(
        name=_text(entry, "name")[:MAX_JOB_NAME],
        inputs=_text(entry, "inputs"),
        attempt=min(max(whole(entry.get("attempt")), 1), MAX_ATTEMPTS),
        phase=phase,
        started=parse_time(entry.get("startTime")),
        completed=parse_time(entry.get("completionTime")),
        reason=_text(entry, "reason"),
        message=scrub(_text(entry, "message")),
        result=parse_result(entry.get("result")),
        files=parse_files(entry.get("files")),
    )


def _text(entry: Mapping[str, Any], name: str) -> str:
    value = entry.get(name)
    return value if isinstance(value, str) else ""
