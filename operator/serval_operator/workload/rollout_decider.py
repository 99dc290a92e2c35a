"""Decide: the capacity verdict where one is needed, and from it the rollout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from serval_operator.api.blocks.rollout import IN_PLACE
from serval_operator.api.conditions import Blocked
from serval_operator.api.observation import Observed
from serval_operator.api.placement import Placement
from serval_operator.api.snapshots import PodView
from serval_operator.cluster.capacity import CapacityVerdict, Supply, judge_capacity, refuses
from serval_operator.pods.refused_pod_backoff import Damping, plan_damping
from serval_operator.reasons import CAPACITY_UNKNOWN
from serval_operator.workload.accelerator_status import waiting_pods
from serval_operator.workload.rollout import Rollout, heading, plan_rollout
from serval_operator.workload.workload import Workload

WAITING_AGAIN = 30.0
"""Seconds until what holds up a waiting pod is looked at again. Strangers' devices send us no event."""
LOOKS_PER_SECOND = 20
"""Where very many wait, so many are looked at again in a second: each look asks for a pod's events."""


class Supplier(Protocol):
    """Reads what there is of nodes and devices."""

    async def supply(
        self, resource_name: str, *, with_holds: bool, waiting: Sequence[PodView] = (), fresh: bool = False
    ) -> Supply:
        """Nodes, and where asked for what pods hold of them and what autoscalers say of waiting pods."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done, and why.

    Parameters
    ----------
    verdict:
        The capacity verdict while a pod waits or none may be made; else None.
    lacking:
        Pods that have no place.
    """

    rollout: Rollout
    damping: Damping
    verdict: CapacityVerdict | None
    lacking: int
    again: float | None


class Decider:
    """Decides about one ModelDeployment; asks for capacity only where it matters.

    Parameters
    ----------
    hide_foreign:
        Whether holders in other namespaces are counted only, and not named.
    """

    def __init__(self, supplier: Supplier, *, hide_foreign: bool) -> None:
        self._supplier = supplier
        self._hide_foreign = hide_foreign

    async def decide(self, observed: Observed, workload: Workload, *, crowd: int = 0) -> Decision:
        """Decide from one observation.

        Parameters
        ----------
        crowd:
            How many ModelDeployments wait for a place.

        Raises
        ------
        KubeError
            Something transient.
        """
        in_place = observed.deployment is not None and not observed.deployment.surge
        waits = waiting_pods(observed, revision=workload.revision, wanted=workload.wanted, in_place=in_place)
        verdict, refused = None, None
        if waits and workload.placement.resource_name:
            verdict = await self._judge(observed, workload.placement, waits)
        elif not observed.living() and workload.wanted and workload.placement.resource_name:
            verdict, refused = await self._first(observed, workload.placement)
        head = heading(observed, workload, observed.revisions)
        damping = plan_damping(observed, revision=head.revision, wanted=workload.wanted)
        rollout = plan_rollout(
            observed,
            workload,
            records=observed.revisions,
            fits=verdict.fits if verdict else None,
            capacity_asked=bool(verdict and waits),
            damping=damping,
            refused=refused,
        )
        if rollout.needs.capacity:
            # Anew: who counts on a device that was taken a second ago stops nothing, and gets nothing.
            free = await self._judge(observed, workload.placement, (), fresh=True)
            rollout = plan_rollout(
                observed,
                workload,
                records=observed.revisions,
                fits=free.fits,
                capacity_asked=True,
                damping=damping,
                refused=refused,
            )
        pauses = [rollout.again, max(WAITING_AGAIN, crowd / LOOKS_PER_SECOND) if waits or refused else None]
        return Decision(
            rollout=rollout,
            damping=damping,
            verdict=verdict if waits or refused else None,
            lacking=len(waits) if waits else workload.wanted,
            again=min((pause for pause in pauses if pause is not None), default=None),
        )

    async def _first(self, observed: Observed, request: Placement) -> tuple[CapacityVerdict, Blocked | None]:
        """Judge before the first pod is made: not whether a device is free, but whether there is one."""
        verdict = judge_capacity(
            request,
            await self._supplier.supply(request.resource_name, with_holds=False),
            namespace=observed.model.namespace,
            hide_foreign=self._hide_foreign,
        )
        if verdict.reason == CAPACITY_UNKNOWN or not refuses(request, verdict):
            return verdict, None
        return verdict, Blocked(verdict.reason, verdict.message)

    async def _judge(
        self, observed: Observed, request: Placement, waits: Sequence[PodView], *, fresh: bool = False
    ) -> CapacityVerdict:
        name = request.resource_name
        return judge_capacity(
            request,
            await self._supplier.supply(name, with_holds=True, waiting=waits, fresh=fresh),
            namespace=observed.model.namespace,
            hide_foreign=self._hide_foreign,
        )


def is_in_place(decision: Decision) -> bool:
    """Whether a new pod takes the place of an old one now, which is stopped for it."""
    return decision.rollout.strategy == IN_PLACE
