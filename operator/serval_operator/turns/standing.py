"""Where an object stands in the queue: all objects that ask for its resource, and the nodes. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, cast

from serval_operator.api.device_holders import PodHold
from serval_operator.api.nodes import NodeView
from serval_operator.api.rivals import Priorities, Replacement, Rival, Rivals
from serval_operator.cluster.capacity import Growth, Supply
from serval_operator.cluster.node_fit import Fit, candidates, fit
from serval_operator.constants import ROOM_GIVEN_WITHIN
from serval_operator.turns.packing import free_units
from serval_operator.turns.queue import Contender, Turn, Turns, take_turns
from serval_operator.turns.replacing import take_places, taken_places

PATIENCE: Final = timedelta(seconds=30)
"""How long pods may have a free device and not use it before others may. A scheduler and a pod that is being
stopped take less."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an object stands.

    Parameters
    ----------
    takes:
        The record of the object whose place it takes now; None while it takes none.
    """

    turn: Turn
    takes: Replacement | None = None


def stand(own: Rival, rivals: Rivals, supply: Supply, now: datetime) -> Standing | None:
    """Say where an object stands; None if no order holds, so that it may have all its pods.

    No order holds if the operator does not know which devices are free, and while no node could take a pod:
    then its pods wait for a node, and not for a device. If a node is only not ready, what was decided holds
    until it is: else the pods of all that wait were made at once, and took its devices in any order.

    Parameters
    ----------
    own:
        One of the rivals.
    """
    if supply.nodes is None or own.claim.resource in supply.claimable:
        return None
    if supply.holds is None:
        # Until they are counted again, those that wait keep waiting. The others are not held up by a count.
        return Standing(Turn(min(own.asked, own.claim.wanted))) if supply.late and own.queued else None
    rivals = _unblocked(own, rivals)
    round_ = look(rivals, supply, own.claim.resource, now)
    mine = round_.contenders.get(own.uid)
    if mine is None:
        return None
    if not mine.nodes:
        waits = len(rivals.rivals) > 1 and not mine.elastic and _node_returns(own, supply.nodes)
        return Standing(Turn(min(own.asked, own.claim.wanted))) if waits else None
    # A device that is free for another object is held by that one in a moment, and can be replaced then.
    busy = all(round_.free[node] < mine.units for node in mine.nodes)
    turn = round_.turns.turn(own.uid)
    return Standing(turn, round_.takes.get(own.uid) if busy and not turn.granted else None)


@dataclass(frozen=True, slots=True)
class Round:
    """The queue for a resource now, for all that ask.

    Parameters
    ----------
    supply:
        With pods of ours that got a node since the pods were listed.
    contenders:
        By uid.
    free:
        By node, units that no pod holds.
    takes:
        By uid, whose place each may take that wants to take one.
    """

    supply: Supply
    contenders: Mapping[str, Contender]
    free: Mapping[str, int]
    turns: Turns
    takes: Mapping[str, Replacement]


def look(rivals: Rivals, supply: Supply, resource: str, now: datetime) -> Round:
    """Look at the queue. Many ask about the same one, so it is kept for a second, while nothing changes.

    Parameters
    ----------
    supply:
        With nodes and holds.
    """
    seen = (*(supply.nodes or ()), *(supply.holds or ()))
    state = (resource, int(now.timestamp()), supply.growth.autoscaled, hash(tuple(map(id, seen))))
    kept = rivals.memo.get(state)
    if kept is None:
        complete = _complete(rivals, supply, resource)
        free = _free(resource, complete)
        ranked = {one.uid: one for one in _contenders(rivals, complete.nodes or (), complete.growth, now)}
        turns = take_turns(ranked.values(), free, now, _offered(resource, complete))
        takes = take_places(rivals.rivals, ranked, turns) if rivals.priorities.known else {}
        rivals.memo.clear()
        kept = rivals.memo[state] = Round(complete, ranked, free, turns, takes)
    return cast("Round", kept)


def _node_returns(own: Rival, nodes: Sequence[NodeView]) -> bool:
    """Whether a node is meant to take the pods, and cannot at present."""
    asked = own.claim.placement
    return any(fit(node, asked) is Fit.NOT_NOW for node in candidates(nodes, asked))


def _unblocked(own: Rival, rivals: Rivals) -> Rivals:
    """The rivals, of which this one is not blocked: it is being planned again, so its status is old."""
    if not own.blocked:
        return rivals
    others = (one for one in rivals.rivals if one.uid != own.uid)
    return replace(rivals, rivals=(*others, replace(own, blocked=False)), memo={})


def _contenders(rivals: Rivals, nodes: Sequence[NodeView], growth: Growth, now: datetime) -> list[Contender]:
    usable: dict[str, frozenset[str]] = {}
    targets = taken_places(rivals.rivals)
    contenders = []
    for one in rivals.rivals:
        if one.claim.where not in usable:
            asked = one.claim.placement
            fitting = (node.name for node in candidates(nodes, asked) if fit(node, asked) is Fit.USABLE)
            usable[one.claim.where] = frozenset(fitting)
        wanted = 0 if (one.uid, one.generation) in targets else one.claim.wanted
        contenders.append(_contender(one, wanted, usable[one.claim.where], rivals.priorities, growth, now))
    return contenders


def _contender(
    one: Rival, wanted: int, nodes: frozenset[str], priorities: Priorities, growth: Growth, now: datetime
) -> Contender:
    claim, stopping = one.claim, len(one.on_nodes) - one.placed
    # A profile is the administrator's word about its nodes. Where none is named, any autoscaler may add some.
    elastic = claim.placement.scalable or (growth.autoscaled and not claim.by_profile)
    # A pod that has just ended may still be counted as a holder. Its successor gets the device.
    succeeds = one.freed is not None and now - one.freed < ROOM_GIVEN_WITHIN
    return Contender(
        key=one.key,
        uid=one.uid,
        units=claim.placement.count,
        nodes=nodes,
        wanted=wanted,
        priority=priorities.of(claim.priority_class),
        created=one.created,
        placed=one.placed,
        stopping=stopping,
        asked=one.asked,
        promised=_promised(one),
        homeless=0 if succeeds else one.homeless,
        together=claim.together,
        elastic=elastic,
        rolling=one.rolling,
        refused=one.refused or one.blocked,
        yields=not (elastic or one.rolling or stopping) and _cannot_use(one, now),
        since=one.since,
    )


def _promised(one: Rival) -> int:
    record = one.record
    return record.replicas if record and record.generation == one.generation else 0


def _cannot_use(one: Rival, now: datetime) -> bool:
    """Whether its pods find no node for another reason than a missing device, as far as anybody can tell."""
    if not one.homeless:
        return False
    if not one.lacks_device:
        return True
    times = [time for time in (one.homeless_since, one.freed) if time]
    return now - max(times, default=now) >= PATIENCE


def _complete(rivals: Rivals, supply: Supply, resource: str) -> Supply:
    """The supply, with pods of ours that got a node since the pods were listed."""
    if supply.holds is None:
        return supply
    counted = {(hold.namespace, hold.name) for hold in supply.holds}
    more = [
        PodHold(one.key.namespace, name, node, one.key, {resource: one.claim.placement.count})
        for one in rivals.rivals
        for name, node in one.on_nodes
        if (one.key.namespace, name) not in counted
    ]
    return replace(supply, holds=(*supply.holds, *more)) if more else supply


def _free(resource: str, supply: Supply) -> dict[str, int]:
    """By node, units that no pod holds."""
    held = [(hold.node, hold.amounts.get(resource, 0)) for hold in supply.holds or ()]
    return free_units(_offered(resource, supply), held)


def _offered(resource: str, supply: Supply) -> dict[str, int]:
    """By node, all its units."""
    return {node.name: node.allocatable.get(resource, 0) for node in supply.nodes or ()}
