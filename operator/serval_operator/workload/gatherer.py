"""Gather: everything that a reconcile looks at, read into one frozen observation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

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
    Identity,
    OwnerView,
    PodView,
    PodWarning,
)
from serval_operator.pods.event_reader import EventReader, Warnings
from serval_operator.pods.observation import Observed
from serval_operator.pods.pod_state import is_silent

ROOM_GIVEN_WITHIN = timedelta(seconds=3)
"""How long after a pod's end its successor may still be without a place before that is a failure."""


class Seen(Protocol):
    """The part of the cache that gathering reads."""

    def named(self, resource: Resource, key: Key) -> Identity | None:
        """The child of a kind that has the name of its owner, whatever owns it."""

    def owned(self, resource: Resource, key: Key) -> Sequence[Any]:
        """Children of a kind that belong to a key, or to a predecessor of its name."""

    def nodes(self) -> Sequence[NodeView]:
        """All nodes; none where they are not watched."""


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
        self, events: EventReader, seen: Seen, owns: Sequence[Resource], now: Callable[[], datetime]
    ) -> None:
        self._events = events
        self._seen = seen
        self._owns = tuple(owns)
        self._now = now
        self._stopping: dict[Key, datetime] = {}

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
        """Forget a ModelDeployment that is gone."""
        self._events.forget(key)
        self._stopping.pop(key, None)

    def _note_stopping(self, key: Key) -> None:
        if any(pod.deleting and pod.node for pod in self._seen.owned(PODS, key)):
            self._stopping[key] = self._now()

    def _room_comes(self, key: Key) -> float | None:
        """Seconds for which the end of a pod counts as recent; None where no pod ended lately.

        The scheduler needs a moment to give a freed place away, and only then takes back its words.
        """
        stopping = self._stopping.get(key)
        if stopping is None:
            return None
        left = (stopping + ROOM_GIVEN_WITHIN - self._now()).total_seconds()
        return left if left > 0 else None
