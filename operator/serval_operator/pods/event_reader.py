"""Reads the Warning events of pods whose status tells nothing, at a bounded rate.

The kubelet tells of sandboxes and volumes in events only. Watching all events of a cluster for that would
cost far more than asking about the few pods that are stuck, with pauses that double. Events are an optional
input: while they cannot be read, the last ones that were read count.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from serval_operator.api.naming import Key
from serval_operator.api.resources import EVENTS
from serval_operator.api.snapshots import PodView, PodWarning, parse_pod_warning
from serval_operator.errors import KubeError
from serval_operator.runtime.kube_api import KubeApi

FIRST_LOOK = timedelta(seconds=2)
"""A placed pod may be silent for this long before its events are read."""
LONGEST_PAUSE = 30.0
"""Seconds between two looks at the events of a pod that stays silent."""
PODS_PER_LOOK = 3
"""Pods of one object whose events are read by one reconcile, those that waited longest first. Pods of one
object mostly have one problem."""
READS_PER_SECOND = 20
"""Reads of all objects together."""
READS_WHILE_FAILING = 1
"""Reads in a second while they fail: each may hold a worker for as long as it is waited for."""
LIMIT = 5.0
"""Seconds that a reconcile waits for events. They are not worth more."""

Warnings = dict[str, tuple[PodWarning, ...]]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Look:
    """The last look at the events of one pod.

    Parameters
    ----------
    count:
        Looks so far.
    due:
        When to look again.
    """

    count: int
    due: datetime
    found: tuple[PodWarning, ...] = ()


class EventReader:
    """Reads events for all kinds.

    Parameters
    ----------
    now:
        Aware UTC time.
    """

    def __init__(self, api: KubeApi, now: Callable[[], datetime]) -> None:
        self._api = api
        self._now = now
        self._looks: dict[Key, dict[str, _Look]] = {}
        self._second = 0
        self._reads = 0
        self._failing = False

    async def warnings(self, key: Key, pods: Sequence[PodView]) -> tuple[Warnings, float | None]:
        """Warning events of silent pods by uid, and the seconds after which to look again (None: no need).

        Parameters
        ----------
        pods:
            The silent pods of an object. All others of it are forgotten.
        """
        now = self._now()
        before = self._looks.pop(key, {})
        looks = {pod.uid: before.get(pod.uid) or _Look(0, _first_look(pod, now)) for pod in pods}
        if not looks:
            return {}, None
        due = sorted((pod for pod in pods if looks[pod.uid].due <= now), key=lambda pod: looks[pod.uid].due)
        read = [pod for pod in due[:PODS_PER_LOOK] if self._may_read(now)]
        found = await asyncio.gather(*(self._read(pod) for pod in read))
        for pod, events in zip(read, found, strict=True):
            looks[pod.uid] = _next(looks[pod.uid], now, events)
        self._looks[key] = looks
        # Those that were put off come again no faster than they can be read.
        soonest = max(1.0, len(self._looks) / READS_PER_SECOND)
        again = min(max((look.due - now).total_seconds(), soonest) for look in looks.values())
        return {uid: look.found for uid, look in looks.items() if look.count}, again

    def forget(self, key: Key) -> None:
        """Forget an object that is gone."""
        self._looks.pop(key, None)

    def _may_read(self, now: datetime) -> bool:
        """Whether one more read is within the rate."""
        second = int(now.timestamp())
        if second != self._second:
            self._second, self._reads = second, 0
        self._reads += 1
        return self._reads <= (READS_WHILE_FAILING if self._failing else READS_PER_SECOND)

    async def _read(self, pod: PodView) -> tuple[PodWarning, ...] | None:
        """Warning events of a pod; None where they cannot be read: that must not cost the status."""
        selector = f"involvedObject.uid={pod.uid},type=Warning"
        try:
            async with asyncio.timeout(LIMIT):
                listing = await self._api.list(EVENTS, pod.namespace, field_selector=selector)
        except (KubeError, TimeoutError) as error:
            if not self._failing:
                _log.warning("events cannot be read, so causes that only they tell are missing: %s", error)
            self._failing = True
            return None
        if self._failing:
            _log.info("events can be read again")
        self._failing = False
        return tuple(parse_pod_warning(item) for item in listing.items)


def _first_look(pod: PodView, now: datetime) -> datetime:
    return (pod.scheduled or pod.created or now) + FIRST_LOOK


def _next(look: _Look, now: datetime, events: tuple[PodWarning, ...] | None) -> _Look:
    count = look.count + 1
    pause = min(2.0 * 2 ** min(max(count - 3, 0), 10), LONGEST_PAUSE)
    return _Look(count, now + timedelta(seconds=pause), look.found if events is None else events)
