"""Supply: the nodes and devices of the cluster, read on demand and cached for a short time.

Pods of other owners are not watched: most of them hold no device, and each of their changes would cost CPU
time. They are listed on demand (only those of the device nodes, if these are few), once for all concurrent
callers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Generic, Protocol, TypeVar

from serval_operator.api.device_holders import PodHold, parse_hold
from serval_operator.api.nodes import NodeView
from serval_operator.api.resources import CONFIG_MAPS, DEVICE_CLASSES, EVENTS, NODE_CLAIMS, PODS, Resource
from serval_operator.api.snapshots import PodView, parse_pod_warning
from serval_operator.api.text import scrub
from serval_operator.cluster.capacity import Growth, Supply
from serval_operator.cluster.scale_up_signals import Around, look_around
from serval_operator.constants import AUTOSCALER_NAMESPACE, AUTOSCALER_STATUS
from serval_operator.errors import Forbidden, KubeError
from serval_operator.runtime.access_review import Access
from serval_operator.runtime.kube_api import KubeApi, Object
from serval_operator.runtime.lister import Lister
from serval_operator.runtime.single_flight import SingleFlight

HOLDS_KEPT = 3.0
"""Seconds for which a count of devices in use is valid. Models that start together share one count."""
GROWTH_KEPT = 10.0
"""Seconds for which the general state of autoscalers is valid; they check the cluster every 10 seconds."""
FEW_NODES = 16
"""Up to this number of device nodes, the pods of each are listed separately; above it, all pods at once."""
COMING_FOR = timedelta(minutes=15)
"""How long an ordered node may take to appear: the limit of the cluster autoscaler."""
REFUSED_FOR = timedelta(minutes=60)
"""How long the cluster keeps an event. The autoscaler repeats a refusal while nothing changes."""

_RUNS = "status.phase!=Succeeded,status.phase!=Failed,spec.nodeName"
_ORDERED = ("TriggeredScaleUp", "Nominated")
"""Reasons of the events with which the cluster autoscaler and Karpenter report that a node is being added."""
_NOT_ORDERED = "NotTriggerScaleUp"

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Reader(KubeApi, Lister, Protocol):
    """A client that can also reduce each listed object to a view."""


class SeenNodes(Protocol):
    """The part of the cache that this module reads."""

    def nodes(self) -> tuple[NodeView, ...]:
        """Return all nodes."""


class Kept(Generic[_T]):
    """Caches one value for a time; concurrent callers share one request.

    Parameters
    ----------
    ask:
        Requests the value.
    seconds:
        How long it is valid.
    clock:
        Monotonic seconds.
    """

    def __init__(self, ask: Callable[[], Awaitable[_T]], seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._known: tuple[float, _T] | None = None
        self._requests = SingleFlight(self._send, clock)
        self._ask = ask

    async def get(self, *, fresh: bool = False) -> _T:
        """Return the value. A request that fails fails for all callers that wait for it.

        Parameters
        ----------
        fresh:
            Whether the value must be requested after this call.
        """
        least = self._clock() if fresh else self._clock() - self._seconds
        if self._known is not None and self._known[0] >= least:
            return self._known[1]
        return await self._requests.get(least)

    async def _send(self) -> _T:
        sent = self._clock()
        value = await self._ask()
        self._known = (sent, value)
        return value


class ClusterSupplier:
    """Reads nodes from the cache and everything else live, within the permissions of the operator.

    Parameters
    ----------
    access:
        Gives what the operator may read now.
    now:
        Aware UTC time.
    clock:
        Monotonic seconds.
    """

    def __init__(
        self,
        api: Reader,
        seen: SeenNodes,
        access: Callable[[], Access],
        now: Callable[[], datetime],
        clock: Callable[[], float],
    ) -> None:
        self._api = api
        self._seen = seen
        self._access = access
        self._now = now
        self._holds = Kept(self._count, HOLDS_KEPT, clock)
        self._around = Kept(self._look_around, GROWTH_KEPT, clock)

    async def supply(
        self, resource_name: str, *, with_holds: bool, waiting: Sequence[PodView] = (), fresh: bool = False
    ) -> Supply:
        """Return the supply of a resource.

        Parameters
        ----------
        with_holds:
            Whether to count the devices in use.
        fresh:
            Whether to count them again.
        waiting:
            Pods that wait, for which autoscalers may have posted events.

        Raises
        ------
        KubeError
            Pods could not be listed.
        """
        if not self._access().nodes:
            # A waiting pod is in a namespace that is served, and so are the events about it.
            coming, refused = await self._told_of(waiting)
            return Supply(nodes=None, growth=Growth(coming, refused))
        holds = await self._counted(fresh=fresh) if with_holds and self._access().pods else None
        around = await self._around.get()
        coming, refused = await self._told_of(waiting)
        return Supply(
            nodes=self._seen.nodes(),
            holds=holds,
            growth=around.growth(resource_name, coming=coming, refused=refused),
            claimable=around.claimable,
        )

    async def _counted(self, *, fresh: bool) -> tuple[PodHold, ...] | None:
        """Count the devices in use; None if the operator has lost the permission since it checked."""
        try:
            return await self._holds.get(fresh=fresh)
        except Forbidden as error:
            _log.warning("devices in use cannot be counted: %s", error.message)
            return None

    async def _count(self) -> tuple[PodHold, ...]:
        nodes = [node.name for node in self._seen.nodes() if any(node.allocatable.values())]
        if len(nodes) > FEW_NODES:
            return await self._held(f"{_RUNS}!=")
        found = await asyncio.gather(*(self._held(f"{_RUNS}={node}") for node in nodes))
        return tuple(hold for holds in found for hold in holds)

    async def _held(self, field_selector: str) -> tuple[PodHold, ...]:
        listing = await self._api.list_as(parse_hold, PODS, field_selector=field_selector)
        return tuple(hold for hold in listing.items if hold)

    async def _told_of(self, waiting: Sequence[PodView]) -> tuple[str, str]:
        """Return the autoscalers' messages on the first waiting pod: a node is being added, or none will be.

        Pods of one revision ask for the same resources, so one of them represents all.
        """
        if not waiting:
            return "", ""
        pod = min(waiting, key=lambda one: one.name)
        selector = f"involvedObject.uid={pod.uid},type=Normal"
        listing = await self._tried(self._api.list(EVENTS, pod.namespace, field_selector=selector))
        events = [parse_pod_warning(item) for item in (listing.items if listing else ())]
        dated = sorted(((one.last_seen, one) for one in events if one.last_seen), key=lambda pair: pair[0])
        for seen, event in reversed(dated):
            if event.reason in _ORDERED and self._now() - seen < COMING_FOR:
                return scrub(event.message), ""
            if event.reason == _NOT_ORDERED and self._now() - seen < REFUSED_FOR:
                return "", scrub(event.message)
        return "", ""

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
        listing = await self._tried(self._api.list(resource))
        return listing.items if listing else None

    async def _status(self) -> str:
        """Read the status of the cluster autoscaler; empty if there is no autoscaler."""
        if not self._access().autoscaler:
            return ""
        found = await self._tried(self._api.get(CONFIG_MAPS, AUTOSCALER_NAMESPACE, AUTOSCALER_STATUS))
        return str(((found or {}).get("data") or {}).get("status", ""))

    @staticmethod
    async def _tried(request: Awaitable[_T]) -> _T | None:
        """Return the answer, or None after an error."""
        try:
            return await request
        except KubeError as error:
            if error.status != 404:
                _log.warning("what autoscalers say is not known: %s", error)
            return None
