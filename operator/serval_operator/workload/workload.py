"""What a rollout brings about: the part of what should be that all kinds that serve have in common."""

from __future__ import annotations

from dataclasses import dataclass, field

from serval_operator.api.blocks.rollout import Rollout
from serval_operator.api.placement import Placement


@dataclass(frozen=True, slots=True)
class Workload:
    """Pods that should run.

    Parameters
    ----------
    revision:
        Key of the newest revision.
    wanted:
        Pods that should run.
    rollout:
        How a change goes out.
    placement:
        What each pod asks of a node.
    """

    revision: str
    wanted: int
    rollout: Rollout = field(default_factory=Rollout)
    placement: Placement = field(default_factory=Placement)

    @property
    def deadline_seconds(self) -> int:
        """Longest time from a pod's scheduling to the model's first answer."""
        return self.rollout.start_deadline_seconds
