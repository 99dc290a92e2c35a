"""Reads what autoscalers publish of nodes to come: in general, and in events about a pod that waits.

All of it is optional: what cannot be read, or not in time, is taken as not said.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeVar

from serval_operator.api.resources import CONFIG_MAPS, DEVICE_CLASSES, EVENTS, NODE_CLAIMS, Resource
from serval_operator.api.snapshots import PodView, parse_pod_warning
from serval_operator.api.text import scrub
from serval_operator.cluster.kept import PATIENCE, Fault, Kept
from serval_operator.cluster.scale_up_signals import Around, look_around
from serval_operator.constants import AUTOSCALER_NAMESPACE, AUTOSCALER_STATUS
from serval_operator.errors import KubeError, Transient
from serval_operator.runtime.access_review import Access
from serval_operator.runtime.kube_api import KubeApi, Object

GROWTH_KEPT = 10.0
"""Seconds for which the general state of autoscalers is valid; they check the cluster every 10 seconds."""
READS_PER_SECOND = 10
"""Reads of events for all pods together. Each makes the API server look through the events of a namespace."""
ASKED_FOR = timedelta(minutes=2)
"""How long a pod shares in these reads after it was asked about, which is every 30 seconds while it waits."""
COMING_FOR = timedelta(minutes=15)
"""How long an ordered node may take to appear: the limit of the cluster autoscaler."""
REFUSED_FOR = timedelta(minutes=60)
"""How long the cluster keeps an event. The autoscaler repeats a refusal while nothing changes."""

_ORDERED = ("TriggeredScaleUp", "Nominated")
"""Reasons of the events with which the cluster autoscaler and Karpenter report that a node is being added."""
_NOT_ORDERED = "NotTriggerScaleUp"

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Said:
    """What was said of a pod.

    Parameters
    ----------
    asked:
        When it was asked about last.
    read:
        When its events were read; None for never.
    words:
        Time, reason and message of each event, the latest last.
    """

    asked: datetime
    read: datetime | None = None
    words: tuple[tuple[datetime, str, str], ...] = ()


class AutoscalerReader:
    """Reads for all callers together, within the permissions of the operator.

    Parameters
    ----------
    now:
        Aware UTC time.
    clock:
        Monotonic seconds.
    patience:
        Seconds that a caller waits.

    Attributes
    ----------
    fault:
        Whether something of it cannot be read.
    """

    def __init__(
        self,
        api: KubeApi,
        access: Callable[[], Access],
        now: Callable[[], datetime],
        clock: Callable[[], float],
        *,
        patience: float = PATIENCE,
    ) -> None:
        self.fault = Fault("what autoscalers say is not known")
        self._api = api
        self._access = access
        self._now = now
        self._patience = patience
        self._around = Kept(self._look_around, GROWTH_KEPT, clock, self.fault, "general", patience=patience)
        self._said: dict[str, _Said] = {}
        self._second = 0
        self._reads = 0

    async def around(self) -> Around:
        """Return what autoscalers and device classes say of no pod in particular."""
        return await self._around.get() or Around({})

    async def told_of(self, waiting: Sequence[PodView]) -> tuple[str, str]:
        """Return the autoscalers' messages on the first waiting pod: a node is being added, or none will be.

        Pods of one revision ask for the same resources, so one of them represents all.
        """
        if not waiting:
            return "", ""
        now, pod = self._now(), min(waiting, key=lambda one: one.name)
        said = self._said[pod.uid] = replace(self._said.pop(pod.uid, _Said(now)), asked=now)
        self._forget(now)
        if self._is_due(said, now) and self._may_read(now):
            said = self._said[pod.uid] = await self._read(pod, said)
        for seen, reason, message in reversed(said.words):
            if reason in _ORDERED and now - seen < COMING_FOR:
                return message, ""
            if reason == _NOT_ORDERED and now - seen < REFUSED_FOR:
                return "", message
        return "", ""

    def _is_due(self, said: _Said, now: datetime) -> bool:
        """Whether it is the turn of a pod. Few pods are read at each look, many one after another."""
        pods = len(self._said)
        if said.read is None or pods <= READS_PER_SECOND:
            return True
        return now - said.read >= timedelta(seconds=pods / READS_PER_SECOND)

    def _may_read(self, now: datetime) -> bool:
        """Whether one more read of events is within the rate."""
        second = int(now.timestamp())
        if second != self._second:
            self._second, self._reads = second, 0
        self._reads += 1
        return self._reads <= READS_PER_SECOND

    async def _read(self, pod: PodView, said: _Said) -> _Said:
        selector = f"involvedObject.uid={pod.uid},type=Normal"
        listing = await self._tried(EVENTS, self._events(pod.namespace, selector))
        if listing is None:
            return said
        events = [parse_pod_warning(item) for item in listing]
        dated = [(one.last_seen, one.reason, scrub(one.message)) for one in events if one.last_seen]
        return replace(said, read=said.asked, words=tuple(sorted(dated, key=lambda word: word[0])))

    async def _events(self, namespace: str, selector: str) -> tuple[Object, ...]:
        try:
            async with asyncio.timeout(self._patience):
                return (await self._api.list(EVENTS, namespace, field_selector=selector)).items
        except TimeoutError:
            raise Transient(0, "Timeout", f"no events within {self._patience:g} s") from None

    def _forget(self, now: datetime) -> None:
        """Forget pods that are not asked about any more. What was asked about first stands first."""
        while now - self._said[first := next(iter(self._said))].asked > ASKED_FOR:
            del self._said[first]

    async def _look_around(self) -> Around:
        """Read the general state of autoscalers. A failure here loses this answer, not the reconcile."""
        claims, classes, status = await asyncio.gather(
            self._listed(NODE_CLAIMS, allowed=self._access().node_claims),
            self._listed(DEVICE_CLASSES, allowed=self._access().device_classes),
            self._status(),
        )
        return look_around(claims, classes or (), status)

    async def _listed(self, resource: Resource, *, allowed: bool) -> tuple[Object, ...] | None:
        """List all objects of a kind; None if the kind does not exist or may not be read."""
        if not allowed:
            return None
        listing = await self._tried(resource, self._api.list(resource))
        return listing.items if listing else None

    async def _status(self) -> str:
        """Read the status of the cluster autoscaler; empty if there is no autoscaler."""
        if not self._access().autoscaler:
            return ""
        request = self._api.get(CONFIG_MAPS, AUTOSCALER_NAMESPACE, AUTOSCALER_STATUS)
        found = await self._tried(CONFIG_MAPS, request)
        return str(((found or {}).get("data") or {}).get("status", ""))

    async def _tried(self, resource: Resource, request: Awaitable[_T]) -> _T | None:
        """Return the answer, or None after an error."""
        answer: _T | None
        try:
            answer = await request
        except KubeError as error:
            if error.status != 404:
                self.fault.failed(resource.plural, error)
                return None
            answer = None
        self.fault.passed(resource.plural)
        return answer
