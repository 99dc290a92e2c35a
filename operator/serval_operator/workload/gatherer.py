"""Gather: everything that a reconcile looks at, read into one frozen observation."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

from serval_operator.api.naming import Key
from serval_operator.api.nodes import NodeView
from serval_operator.api.resources import (
    CONTROLLER_REVISIONS,
    EVENTS,
    PODS,
    Resource,
)
from serval_operator.api.snapshots import (
    ChildView,
    Identity,
    OwnerView,
    PodView,
    PodWarning,
    parse_pod_warning,
)
from serval_operator.errors import Forbidden
from serval_operator.pods.observation import Observed
from serval_operator.pods.pod_state import is_silent
from serval_operator.runtime.kube_api import KubeApi

_log = logging.getLogger(__name__)

FIRST_LOOK = timedelta(seconds=2)
"""A placed pod may be silent for this long before its events are read."""
OVERRUN = timedelta(seconds=10)
"""How long after the end of its grace period a pod may still be there before it counts as stuck. The kubelet
kills at the end of that period, and then unmounts volumes and reports."""
ROOM_GIVEN_WITHIN = timedelta(seconds=3)
"""How long after a pod's end its successor may still be without a place before that is a failure."""
LONGEST_PAUSE = 30.0
"""Seconds between two looks at the events of a pod that stays silent."""


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

    The kubelet tells of sandboxes and volumes in events only. Watching all events of a cluster for that
    would cost far more than asking about the few pods that are stuck, with pauses that double.

    Parameters
    ----------
    owns:
        Kinds of children that are applied.
    now:
        Aware UTC time.
    """

    def __init__(
        self, api: KubeApi, seen: Seen, owns: Sequence[Resource], now: Callable[[], datetime]
    ) -> None:
        self._api = api
        self._seen = seen
        self._owns = tuple(owns)
        self._now = now
        self._looks: dict[Key, dict[str, int]] = {}
        self._stopping: dict[Key, frozenset[str]] = {}
        self._freed: dict[Key, datetime] = {}

    def nodes(self) -> Sequence[NodeView]:
        """All nodes; none where they are not watched."""
        return self._seen.nodes()

    def observe(self, model: OwnerView, warnings: Mapping[str, Sequence[PodWarning]]) -> Observed:
        """Freeze what the cache holds now."""
        key = model.key
        self._note_stopping(key)
        return Observed(
            model=model,
            children={resource: self._children(resource, key) for resource in self._owns},
            pods=tuple(sorted(self._pods(model), key=lambda pod: pod.name)),
            now=self._now(),
            warnings=warnings,
            making_room=self._room_comes(key) is not None,
            revisions=tuple(
                one for one in self._seen.owned(CONTROLLER_REVISIONS, key) if one.owner_uid == model.uid
            ),
        )

    def _children(self, resource: Resource, key: Key) -> dict[str, ChildView]:
        """Children of a kind by name, and what else has the name of their owner."""
        named = self._seen.named(resource, key)
        found = (*self._seen.owned(resource, key), *([named] if named else []))
        return {one.name: one for one in found if isinstance(one, ChildView)}

    def _pods(self, model: OwnerView) -> list[PodView]:
        """Pods of this very object: those of a deleted predecessor of its name say nothing about it."""
        return [pod for pod in self._seen.owned(PODS, model.key) if pod.owner_uid == model.uid]

    async def warnings(self, model: OwnerView) -> tuple[dict[str, tuple[PodWarning, ...]], float | None]:
        """Warning events of silent pods, and the seconds after which to look again (None: no need).

        Raises
        ------
        KubeError
            The events could not be read.
        """
        key = model.key
        pods = [pod for pod in self._pods(model) if not pod.deleting and is_silent(pod)]
        found: dict[str, tuple[PodWarning, ...]] = {}
        before = self._looks.pop(key, {})
        again: float | None = None
        for pod in pods:
            age = self._now() - (pod.scheduled or pod.created or self._now())
            if age < FIRST_LOOK:
                pause = (FIRST_LOOK - age).total_seconds() + 0.1
            else:
                found[pod.uid] = await self._events(pod)
                looks = before.get(pod.uid, 0) + 1
                self._looks.setdefault(key, {})[pod.uid] = looks
                pause = min(2.0 * 2 ** max(looks - 3, 0), LONGEST_PAUSE)
            again = pause if again is None else min(again, pause)
        return found, again

    async def _events(self, pod: PodView) -> tuple[PodWarning, ...]:
        """Warning events of a pod; none where we may not read them: that must not cost the whole status."""
        try:
            listing = await self._api.list(
                EVENTS, pod.namespace, field_selector=f"involvedObject.uid={pod.uid},type=Warning"
            )
        except Forbidden as error:
            _log.warning("the events of pod %s cannot be read: %s", pod.name, error.message)
            return ()
        return tuple(parse_pod_warning(item) for item in listing.items)

    def patience(self, key: Key) -> float | None:
        """Seconds until a pod without a place can hope for a predecessor's no more; None: there is none."""
        waits = any(
            pod.unschedulable and not pod.node for pod in self._seen.owned(PODS, key) if not pod.deleting
        )
        return self._room_comes(key) if waits else None

    def forget(self, key: Key) -> None:
        """Forget a ModelDeployment that is gone."""
        self._looks.pop(key, None)
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
        on a lost node, frees it nobody knows when. After its end, the scheduler needs a moment to assign the
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
