"""One frozen observation of everything that decides about a ModelDeployment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from serval_operator.api.snapshots import (
    AutoscalerView,
    DeploymentView,
    DisruptionView,
    OwnerView,
    PodView,
    PodWarning,
    RevisionView,
    ServiceView,
)


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen of a ModelDeployment, its children and its pods at one time.

    Parameters
    ----------
    services:
        By name.
    pods:
        All pods of it, of every revision, those being deleted included.
    warnings:
        Warning events by pod uid, for pods whose status is silent.
    now:
        Aware UTC time of the observation.
    making_room:
        Whether a pod of it is being stopped on a node, or was a moment ago: what it held is not yet, or just
        now, free for its successor.
    revisions:
        Its kept revisions, in no order.
    """

    model: OwnerView
    deployment: DeploymentView | None
    services: Mapping[str, ServiceView]
    pods: Sequence[PodView]
    now: datetime
    warnings: Mapping[str, Sequence[PodWarning]] = field(default_factory=dict)
    making_room: bool = False
    revisions: Sequence[RevisionView] = ()
    autoscaler: AutoscalerView | None = None
    disruption: DisruptionView | None = None

    def living(self) -> list[PodView]:
        """Pods that are not on their way out, failed ones included."""
        return [pod for pod in self.pods if not pod.deleting]

    def revision(self, key: str) -> RevisionView | None:
        """The kept revision of a key; None if it is not recorded."""
        return next((one for one in self.revisions if one.key == key), None)

    def newest(self, revision: str) -> list[PodView]:
        """Living pods of a revision that have not failed as a whole."""
        return [pod for pod in self.living() if pod.revision == revision and pod.phase != "Failed"]
