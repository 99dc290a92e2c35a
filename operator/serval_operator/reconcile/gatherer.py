"""Gather: everything that a reconcile looks at, read into one frozen observation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from serval_operator.api.naming import Key
from serval_operator.api.nodes import NodeView
from serval_operator.api.resources import (
    CONTROLLER_REVISIONS,
    JOBS,
    PODS,
    Resource,
)
from serval_operator.api.snapshots import (
    ChildView,
    OwnerView,
    PodView,
    PodWarning,
)
from serval_operator.constants import ROOM_GIVEN_WITHIN
from serval_operator.pods.event_reader import EventReader, Warnings
from serval_operator.pods.observation import Observed
from serval_operator.pods.pod_state import is_silent
from serval_operator.runtime.cache import Cache

OVERRUN = timedelta(seconds=10)
"""How long after the end of its grace period a pod may still be there before it counts as stuck. The kubelet
kills at the end of that period, and then unmounts volumes and reports."""


class Gatherer:
    """Reads the cache, and live the events of pods whose status tells nothing.

    Parameters
    ----------
    owns:
        Kinds of children that are applied.
    now:
        Aware UTC time.
    """

    def __init__(
        self, events: EventReader, seen: Cache, owns: Sequence[Resource], now: Callable[[], datetime]
    ) -> None:
        self._events = events
        self._seen = seen
        self._owns = tuple(owns)
        self._now = now
        self._stopping: dict[Key, frozenset[str]] = {}
        self._freed: dict[Key, datetime] = {}

    def nodes(self) -> Sequence[NodeView]:
        """All nodes; none where they are not watched."""
        return self._seen.nodes()

    def observe(self, model: OwnerView, warnings: Mapping[str, Sequence[PodWarning]]) -> Observed:
        """Freeze what the cache holds now."""
        key = model.key
        self._note_stopping(key)
        pods = self._pods(model)
        return Observed(
            model=model,
            children={resource: self._children(resource, key) for resource in self._owns},
            pods=tuple(sorted((pod for pod in pods if not pod.job), key=lambda pod: pod.name)),
            now=self._now(),
            warnings=warnings,
            making_room=self._room_comes(key) is not None,
            revisions=self._own(CONTROLLER_REVISIONS, model),
            jobs=self._own(JOBS, model),
            job_pods=tuple(pod for pod in pods if pod.job),
        )

    def _children(self, resource: Resource, key: Key) -> dict[str, ChildView]:
        """Children of a kind by name, and what else has the name of their owner."""
        named = self._seen.named(resource, key)
        found = (*self._seen.owned(resource, key), *([named] if named else []))
        return {one.name: one for one in found if isinstance(one, ChildView)}

    def _pods(self, model: OwnerView) -> tuple[PodView, ...]:
        """Pods of this object, those of Jobs included."""
        return self._own(PODS, model)

    def _own(self, resource: Resource, model: OwnerView) -> tuple[Any, ...]:
        """Objects of this very owner: those of a deleted predecessor of its name say nothing about it."""
        return tuple(one for one in self._seen.owned(resource, model.key) if one.owner_uid == model.uid)

    async def warnings(self, model: OwnerView) -> tuple[Warnings, float | None]:
        """Warning events of silent pods, and the seconds after which to look again (None: no need)."""
        silent = [pod for pod in self._pods(model) if not pod.deleting and is_silent(pod)]
        return await self._events.warnings(model.key, silent)

    def patience(self, key: Key) -> float | None:
        """Seconds until a pod without a place can hope for a predecessor's no more; None: there is none."""
        waits = any(
            pod.unschedulable and not pod.node for pod in self._seen.owned(PODS, key) if not pod.deleting
        )
        return self._room_comes(key) if waits else None

    def forget(self, key: Key) -> None:
        """Forget an object that is gone."""
        self._events.forget(key)
        self._stopping.pop(key, None)
        self._freed.pop(key, None)

    def _note_stopping(self, key: Key) -> None:
        """Remember which pods are being stopped, so that the next look sees that one of them ended."""
        pods = self._seen.owned(PODS, key)
        if self._stopping.get(key, frozenset()) - {pod.uid for pod in pods}:
            self._freed[key] = self._now()
        stopping = frozenset(pod.uid for pod in pods if self._stops_for(pod) is not None)
        if stopping:
            self._stopping[key] = stopping
        else:
            self._stopping.pop(key, None)

    def _room_comes(self, key: Key) -> float | None:
        """Seconds for which a pod without a place may hope for a place that is freed; None: it may not.

        A pod that is being stopped frees its place within its grace period. One that does not, such as a pod
        on a lost node, frees it at an unknown time. After its end, the scheduler needs a moment to assign the
        place, and only then takes back its words.
        """
        waits = [self._stops_for(pod) for pod in self._seen.owned(PODS, key)]
        freed = self._freed.get(key)
        if freed is not None:
            waits.append((freed + ROOM_GIVEN_WITHIN - self._now()).total_seconds())
        return max((left for left in waits if left is not None and left > 0), default=None)

    def _stops_for(self, pod: PodView) -> float | None:
        """Seconds until a pod that is being stopped on a node counts as stuck; None for any other pod."""
        if not pod.node or not pod.deleting or pod.grace_ends is None:
            return None
        left = (pod.grace_ends + OVERRUN - self._now()).total_seconds()
        return left if left > 0 else None
