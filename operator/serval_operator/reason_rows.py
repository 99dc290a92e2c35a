"""What a row of the table of reasons is, and how a module adds rows to a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import ParamSpec

_Fields = ParamSpec("_Fields")


class Health(StrEnum):
    """What a GitOps tool shows for a ModelDeployment, in Argo CD's words."""

    HEALTHY = "Healthy"
    PROGRESSING = "Progressing"
    DEGRADED = "Degraded"
    SUSPENDED = "Suspended"


@dataclass(frozen=True, slots=True)
class Reason:
    """One row of the table.

    Parameters
    ----------
    name:
        Value of the field `reason`.
    conditions:
        Types of the conditions that set it first. `Ready` takes it from them; `Available`, `Reconciling` and
        `Stalled` take it from `Ready`.
    when, cure:
        Markdown for docs/api.md, without a full stop. `cure` is empty if there is nothing to do.
    health:
        What a GitOps tool shows for a ModelDeployment whose `Ready` has this reason. A reason that never
        reaches `Ready` has the verdict of a ModelDeployment that is otherwise well.
    failure:
        Whether something is wrong.
    retry:
        Whether the same spec and model can succeed later. If not, the reason sets `Stalled` (kstatus).
    capacity:
        Whether it says why a pod waits for a device. It is judged again when nodes change.
    impossible:
        Whether no node of the cluster could ever take the pod, and no autoscaler is known to add one.
    restarts:
        Whether a restart of the container may help, so that a revision fails only after several.
    not_provoked:
        Why no test on the lab provokes this failure; empty if one does.
    """

    name: str
    conditions: tuple[str, ...]
    when: str
    cure: str = ""
    health: Health = Health.DEGRADED
    failure: bool = True
    retry: bool = True
    capacity: bool = False
    impossible: bool = False
    restarts: bool = False
    not_provoked: str = ""


def adds(rows: dict[str, Reason], make: Callable[_Fields, Reason]) -> Callable[_Fields, str]:
    """Return a function that adds a row to a table and returns its name, which is the constant."""

    def add(*values: _Fields.args, **fields: _Fields.kwargs) -> str:
        row = make(*values, **fields)
        rows[row.name] = row
        return row.name

    return add
