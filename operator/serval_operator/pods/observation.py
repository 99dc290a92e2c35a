"""One frozen observation of everything that decides about a custom resource."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from serval_operator.api.job_snapshots import JobView
from serval_operator.api.resources import DEPLOYMENTS, Resource
from serval_operator.api.snapshots import (
    ChildView,
    DeploymentView,
    OwnerView,
    PodView,
    PodWarning,
    RevisionView,
)
from serval_operator.pods.pod_faults import Fault
from serval_operator.pods.pod_state import Stage, Verdict, judge


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen of a custom resource, its children and its pods at one time.

    Parameters
    ----------
    children:
        By kind and name: those that belong to it, and whatever else has its name.
    pods:
        All pods of it but those of Jobs, of every revision, those being deleted included.
    warnings:
        Warning events by pod uid, for pods whose status is silent.
    now:
        Aware UTC time of the observation.
    making_room:
        Whether a pod of it is being stopped on a node, or was a moment ago: what it held is not yet, or just
        now, free for its successor.
    revisions:
        Its kept revisions, in no order.
    jobs:
        Its Jobs, in no order.
    job_pods:
        Pods of its Jobs, those of deleted Jobs included, in no order.
    faults:
        What is known of pods beside their status, by uid. It explains why such a pod does not answer.
    """

    model: OwnerView
    children: Mapping[Resource, Mapping[str, ChildView]]
    pods: Sequence[PodView]
    now: datetime
    warnings: Mapping[str, Sequence[PodWarning]] = field(default_factory=dict)
    making_room: bool = False
    revisions: Sequence[RevisionView] = ()
    jobs: Sequence[JobView] = ()
    job_pods: Sequence[PodView] = ()
    faults: Mapping[str, Fault] = field(default_factory=dict)
    _verdicts: dict[str, Verdict] = field(default_factory=dict, init=False, compare=False, repr=False)

    @property
    def deployment(self) -> DeploymentView | None:
        """The Deployment of its name."""
        found = self.child(DEPLOYMENTS, self.model.name)
        return found if isinstance(found, DeploymentView) else None

    def child(self, resource: Resource, name: str) -> ChildView | None:
        """A child, or what else has its name; None if nothing has."""
        return self.children.get(resource, {}).get(name)

    def living(self) -> list[PodView]:
        """Pods that are not being deleted, those that ended included."""
        return [pod for pod in self.pods if not pod.deleting]

    def active(self) -> list[PodView]:
        """Pods that a ReplicaSet counts: neither being deleted nor ended."""
        return [pod for pod in self.living() if not pod.ended]

    def revision(self, key: str) -> RevisionView | None:
        """The kept revision of a key; None if it is not recorded."""
        return next((one for one in self.revisions if one.key == key), None)

    def newest(self, revision: str) -> list[PodView]:
        """Active pods of a revision."""
        return [pod for pod in self.active() if pod.revision == revision]

    def verdict(self, pod: PodView) -> Verdict:
        """What there is to say about one of the pods; it is judged once."""
        if pod.uid not in self._verdicts:
            self._verdicts[pod.uid] = self._judged(pod)
        return self._verdicts[pod.uid]

    def _judged(self, pod: PodView) -> Verdict:
        found = judge(pod, self.warnings.get(pod.uid, ()))
        fault = self.faults.get(pod.uid)
        if fault is None or found.stage is not Stage.LOAD:
            return found
        return replace(found, reason=fault.reason, message=fault.message, failed=True)
