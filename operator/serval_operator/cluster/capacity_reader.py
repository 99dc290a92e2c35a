"""Supply: the nodes and devices of the cluster, read on demand and cached for a short time.

No reconcile depends on it: what cannot be read, or not in time, is left out of the supply.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from serval_operator.api.device_holders import PodHold
from serval_operator.api.naming import Place
from serval_operator.api.nodes import NodeView
from serval_operator.api.snapshots import PodView
from serval_operator.cluster.autoscaler_reader import AutoscalerReader
from serval_operator.cluster.capacity import Growth, Supply
from serval_operator.cluster.holds_reader import HoldsReader
from serval_operator.cluster.kept import PATIENCE
from serval_operator.runtime.access_review import Access
from serval_operator.runtime.cache import Cache
from serval_operator.runtime.kube_api import KubeApi


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
    late:
        Called when pods are listed at last, after a caller got no holds.
    patience:
        Seconds that a caller waits.
    """

    def __init__(
        self,
        api: KubeApi,
        seen: Cache,
        access: Callable[[], Access],
        now: Callable[[], datetime],
        clock: Callable[[], float],
        late: Callable[[], None] = lambda: None,
        *,
        patience: float = PATIENCE,
    ) -> None:
        self._seen = seen
        self._access = access
        self._holds = HoldsReader(api, clock, late, patience=patience)
        self._autoscalers = AutoscalerReader(api, access, now, clock, patience=patience)

    async def supply(
        self, resource_name: str, *, with_holds: bool, waiting: Sequence[PodView] = (), fresh: bool = False
    ) -> Supply:
        """Return the supply of a resource in a bounded time; without holds if they are not known by then.

        Parameters
        ----------
        with_holds:
            Whether to count the devices in use.
        fresh:
            Whether to count them again.
        waiting:
            Pods that wait, for which autoscalers may have posted events.
        """
        if not self._access().nodes:
            # A waiting pod is in a namespace that is served, and so are the events about it.
            coming, refused = await self._autoscalers.told_of(waiting)
            return Supply(nodes=None, growth=Growth(coming, refused))
        nodes = self._seen.nodes()
        holds, around, (coming, refused) = await asyncio.gather(
            self._held(resource_name, nodes, fresh=fresh) if with_holds else _nothing(),
            self._autoscalers.around(),
            self._autoscalers.told_of(waiting),
        )
        return Supply(
            nodes=nodes,
            holds=self._corrected(holds),
            late=with_holds and holds is None and self._access().pods and not self._holds.fault.lasts,
            growth=around.growth(resource_name, coming=coming, refused=refused),
            claimable=around.claimable,
        )

    def faults(self) -> Mapping[str, float]:
        """By what is read, 1 while it cannot be read, else 0."""
        parts = {"pods": self._holds.fault, "autoscalers": self._autoscalers.fault}
        return {name: float(fault.lasts) for name, fault in parts.items()}

    def _corrected(self, holds: Sequence[PodHold] | None) -> tuple[PodHold, ...] | None:
        """Leave out pods of ours that let go: their end is watched, and seen before the next listing."""
        if holds is None:
            return None
        ended = self._seen.has_let_go
        return tuple(hold for hold in holds if not ended(Place(hold.namespace, hold.name)))

    async def _held(
        self, resource_name: str, nodes: Sequence[NodeView], *, fresh: bool
    ) -> tuple[PodHold, ...] | None:
        if not self._access().pods:
            return None
        return await self._holds.holds(resource_name, nodes, fresh=fresh)


async def _nothing() -> None:
    return None
