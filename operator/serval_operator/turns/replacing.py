"""Whose place each object takes that does not want to wait (`spec.accelerator.whenBusy: Replace`). Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from serval_operator.api.blocks.scheduling import REPLACE
from serval_operator.api.rivals import Replacement, Rival
from serval_operator.turns.queue import Contender, Turns


class _Needs(NamedTuple):
    """What decides which places are of use: takers that are equal in it choose among the same ones."""

    namespace: str
    nodes: AbstractSet[str]
    units: int
    priority: int


def taken_places(rivals: Sequence[Rival]) -> set[tuple[str, int]]:
    """Uid and generation of the objects whose place is taken."""
    return {
        (one.record.uid, one.record.target_generation) for one in rivals if one.record and one.claim.wanted
    }


def take_places(
    rivals: Sequence[Rival], ranked: Mapping[str, Contender], turns: Turns
) -> Mapping[str, Replacement]:
    """Decide by uid whose place each takes: they choose in the order of the queue, each place once.

    It is the object of the same namespace that comes last in the order of all, and has what the taker needs.

    Parameters
    ----------
    ranked:
        The same objects by uid, as contenders.
    """
    by_uid = {one.uid: one for one in rivals}
    takers = [one for one in turns.waiting if _wants_a_place(by_uid[one.uid], turns.granted[one.uid])]
    if not takers:
        return {}
    every = sorted(rivals, key=lambda rival: ranked[rival.uid].rank, reverse=True)
    places: dict[_Needs, Iterator[tuple[Rival, int]]] = {}
    taken: set[str] = set()
    takes: dict[str, Replacement] = {}
    for one in takers:
        needs = _Needs(one.key.namespace, one.nodes, one.units, one.priority)
        # Places only become fewer, so what was of no use once is not looked at again.
        useful = places.setdefault(needs, _useful(every, needs, ranked, turns.free))
        victim, pods = next(((place, pods) for place, pods in useful if place.uid not in taken), (None, 0))
        if victim is None:
            continue
        taken.add(victim.uid)
        takes[one.uid] = Replacement(
            generation=by_uid[one.uid].generation,
            kind=victim.key.kind,
            name=victim.key.name,
            uid=victim.uid,
            target_generation=victim.generation,
            replicas=min(pods, one.wanted),
        )
    return takes


def _wants_a_place(one: Rival, granted: int) -> bool:
    return one.claim.when_busy == REPLACE and one.may_replace and not granted


def _useful(
    every: Sequence[Rival], needs: _Needs, ranked: Mapping[str, Contender], free: Mapping[str, int]
) -> Iterator[tuple[Rival, int]]:
    """The objects whose place is of use, in this order, each with how many pods find room there."""
    for one in every:
        if one.key.namespace != needs.namespace or not one.placed:
            continue
        ranks = ranked[one.uid]
        if ranks.wanted and ranks.priority <= needs.priority and (pods := _room_of(one, needs, free)):
            yield one, pods


def _room_of(victim: Rival, needs: _Needs, free: Mapping[str, int]) -> int:
    """Pods of the taker that find room where the victim's pods are, once these are gone."""
    units: dict[str, int] = {}
    for _, node in victim.on_nodes:
        if node in needs.nodes:
            units[node] = units.get(node, free.get(node, 0)) + victim.claim.placement.count
    return sum(count // needs.units for count in units.values())
