"""Reads what pods hold of the nodes' devices, at a rate that does not grow with the cluster.

Pods of other owners are not watched: most of them hold no device, and each of their changes would cost CPU
time. They are listed while something waits for a device: only those of the nodes that offer it, if these are
few, else all of them at once.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from serval_operator.api.device_holders import PodHold, parse_hold
from serval_operator.api.nodes import NodeView
from serval_operator.api.resources import PODS
from serval_operator.cluster.kept import PATIENCE, Fault, Kept
from serval_operator.runtime.kube_api import KubeApi

HOLDS_KEPT = 3.0
"""Seconds for which a listing is valid, at least. Models that start together share one."""
FEW_NODES = 16
"""Up to this number of nodes, the pods of each are listed separately; above it, all pods at once."""
ASKED_FOR = 60.0
"""Seconds for which a resource counts as asked for. The nodes of all such resources together are few or not,
so that many resources cost no more than one."""

Holds = Mapping[str, tuple[PodHold, ...]]
"""By extended resource, what holds some of it."""

_RUNS = "status.phase!=Succeeded,status.phase!=Failed,spec.nodeName"
_OF_ALL_NODES = f"{_RUNS}!="


class HoldsReader:
    """Lists the pods that hold devices, for all callers and all resources together.

    Parameters
    ----------
    clock:
        Monotonic seconds.
    late:
        Called when a listing ends for which a caller did not wait.
    patience:
        Seconds after its start for which callers wait for a listing.

    Attributes
    ----------
    fault:
        Whether pods cannot be listed.
    """

    def __init__(
        self,
        api: KubeApi,
        clock: Callable[[], float],
        late: Callable[[], None],
        *,
        patience: float = PATIENCE,
    ) -> None:
        self.fault = Fault("pods cannot be listed, so what is free of devices is not known")
        self._api = api
        self._clock = clock
        self._late = late
        self._patience = patience
        self._asked: dict[str, float] = {}
        self._listings: dict[str, Kept[Holds]] = {}

    async def holds(
        self, resource: str, nodes: Sequence[NodeView], *, fresh: bool
    ) -> tuple[PodHold, ...] | None:
        """Return what holds a resource; None if pods cannot be listed, or not in time.

        Parameters
        ----------
        nodes:
            All nodes.
        fresh:
            Whether pods must be listed after this call.
        """
        selectors = self._selectors(resource, nodes)
        found = await asyncio.gather(*(self._listings[one].get(fresh=fresh) for one in selectors))
        known = [one for one in found if one is not None]
        if len(known) < len(found):
            return None
        return tuple(hold for holds in known for hold in holds.get(resource, ()))

    def _selectors(self, resource: str, nodes: Sequence[NodeView]) -> list[str]:
        """Field selectors of the pods to list for a resource. Listings that are not needed are forgotten."""
        now = self._clock()
        asked = {name: at for name, at in self._asked.items() if now - at <= ASKED_FOR}
        self._asked = {**asked, resource: now}
        offering = {name: _offering(nodes, name) for name in self._asked}
        every = {node for names in offering.values() for node in names}
        if len(every) > FEW_NODES:
            self._keep([_OF_ALL_NODES])
            return [_OF_ALL_NODES] if offering[resource] else []
        self._keep([_of_node(node) for node in every])
        return [_of_node(node) for node in offering[resource]]

    def _keep(self, selectors: Sequence[str]) -> None:
        for selector in self._listings.keys() - set(selectors):
            self._listings.pop(selector).drop()
        for selector in selectors:
            if selector not in self._listings:
                self._listings[selector] = self._listing(selector)

    def _listing(self, selector: str) -> Kept[Holds]:
        return Kept(
            partial(self._list, selector),
            HOLDS_KEPT,
            self._clock,
            self.fault,
            selector,
            late=self._late,
            patience=self._patience,
        )

    async def _list(self, selector: str) -> Holds:
        listing = await self._api.list_as(parse_hold, PODS, field_selector=selector)
        found: dict[str, list[PodHold]] = defaultdict(list)
        for hold in filter(None, listing.items):
            for resource in hold.amounts:
                found[resource].append(hold)
        return {resource: tuple(holds) for resource, holds in found.items()}


def _of_node(name: str) -> str:
    return f"{_RUNS}={name}"


def _offering(nodes: Sequence[NodeView], resource: str) -> list[str]:
    """Names of the nodes that have a resource, also of those whose device is not healthy now."""
    return [node.name for node in nodes if node.allocatable.get(resource) or node.capacity.get(resource)]
