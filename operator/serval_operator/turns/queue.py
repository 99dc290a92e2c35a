"""The queue for one resource: who may have how many pods, who waits, and for whom. Pure.

Everything follows from objects as they are stored, so the answer is the same after a restart of the operator.
Applying it changes nothing about the next answer: what was granted is asked of Kubernetes by the number of
pods of the Deployment, and these pods are kept as long as there is a device for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from serval_operator.api.naming import Key
from serval_operator.turns.packing import Packing

PASSED_FOR: Final = timedelta(minutes=10)
"""How long smaller requests may pass one that needs several devices at once. After that it keeps free devices
until it has all."""
MOST_AHEAD: Final = 3
"""Others that a turn names."""
_NEVER: Final = datetime.max.replace(tzinfo=UTC)

Rank = tuple[int, datetime, str, str, str, str]
"""Sorts contenders by PriorityClass value, creation, name, namespace, kind and uid; the lowest is first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """An object that asks for devices, and its state.

    Parameters
    ----------
    priority:
        Value of its PriorityClass.
    created:
        When the object was created; None counts as last.
    units:
        Units of the resource that each pod takes.
    nodes:
        Names of the nodes that could take a pod if all their devices were free.
    wanted:
        Pods that it should have.
    placed:
        Pods that have a node and are not being stopped.
    stopping:
        Pods that have a node and are being stopped: their devices go to the pods that replace them.
    asked:
        Pods that Kubernetes is asked for, such as the replicas of its Deployment.
    promised:
        Pods that it may have before all others, because it took the place of another object.
    homeless:
        Pods of which the scheduler says that no node takes them.
    together:
        Whether fewer pods than wanted are of no use.
    elastic:
        Whether nodes may be added for it. Its pods stay, so that an autoscaler sees them.
    rolling:
        Whether it is in a rollout. Then it keeps the pods that it has asked for.
    refused:
        Whether something other than devices keeps it from having more pods, such as a quota. It keeps what it
        has asked for, and does not block others.
    yields:
        Whether its pods have had a free device for a while and cannot use it. They go last.
    since:
        When it began to wait; None if it did not say so yet.
    """

    key: Key
    uid: str
    units: int
    nodes: AbstractSet[str]
    wanted: int
    priority: int = 0
    created: datetime | None = None
    placed: int = 0
    stopping: int = 0
    asked: int = 0
    promised: int = 0
    homeless: int = 0
    together: bool = False
    elastic: bool = False
    rolling: bool = False
    refused: bool = False
    yields: bool = False
    since: datetime | None = None

    @property
    def rank(self) -> Rank:
        """Its place in the order."""
        key = self.key
        return (-self.priority, self.created or _NEVER, key.name, key.namespace, key.kind, self.uid)


@dataclass(frozen=True, slots=True)
class Turn:
    """What the queue says to one contender.

    Parameters
    ----------
    granted:
        Pods that it may have.
    position:
        Its place among those that wait for the same nodes, from 1 on; 0 if it does not wait.
    waiting:
        How many wait for the same nodes, itself included.
    ahead:
        Those before it that come first, in their order; at most `MOST_AHEAD`.
    reserved:
        Units that are free and kept for it until it can have all that it needs at once.
    """

    granted: int
    position: int = 0
    waiting: int = 0
    ahead: tuple[Key, ...] = ()
    reserved: int = 0


@dataclass(frozen=True, slots=True)
class Turns:
    """What the queue says to all contenders.

    Parameters
    ----------
    granted:
        By uid, pods that each may have.
    waiting:
        Those that want more, in their order.
    reserved:
        By uid, units that are kept.
    free:
        By node, units that stay free.
    kept:
        By node, units that are kept for those in `reserved`.
    """

    granted: Mapping[str, int]
    waiting: Sequence[Contender]
    reserved: Mapping[str, int]
    free: Mapping[str, int]
    kept: Mapping[str, int] = field(default_factory=dict)
    _lines: dict[AbstractSet[str], tuple[Sequence[Key], Mapping[str, int]]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def turn(self, uid: str) -> Turn:
        """What the queue says to one contender.

        Raises
        ------
        KeyError
            It is not in the queue.
        """
        granted = self.granted[uid]
        own = next((one for one in self.waiting if one.uid == uid), None)
        if own is None:
            return Turn(granted)
        keys, places = self._line(own.nodes)
        position = places[uid]
        ahead = tuple(keys[: min(position, MOST_AHEAD)])
        return Turn(granted, position + 1, len(keys), ahead, self.reserved.get(uid, 0))

    def _line(self, nodes: AbstractSet[str]) -> tuple[Sequence[Key], Mapping[str, int]]:
        """Those that wait for any of these nodes, and the place of each by uid. Many wait for the same."""
        if nodes not in self._lines:
            found = [one for one in self.waiting if one.nodes is nodes or not one.nodes.isdisjoint(nodes)]
            places = {one.uid: index for index, one in enumerate(found)}
            self._lines[nodes] = [one.key for one in found], places
        return self._lines[nodes]


def take_turns(
    contenders: Iterable[Contender],
    free: Mapping[str, int],
    now: datetime,
    offered: Mapping[str, int] | None = None,
) -> Turns:
    """Decide who may have how many pods.

    First come the pods that Kubernetes was asked for already, then those that took the place of others, then
    one more pod at a time for those that want more. Those of a higher priority come first; of those of the
    same priority, those that have fewer pods.

    Parameters
    ----------
    contenders:
        All that ask for the resource, in any order.
    free:
        By node, units that no pod holds.
    now:
        Aware UTC time.
    offered:
        By node, all its units. Nothing is kept for those that would need more of them than there are. None
        where they are not known.
    """
    queue = _Queue(sorted(contenders, key=lambda one: one.rank), dict(free), now, offered)
    queue.keep()
    queue.keep_promises()
    queue.hand_out()
    queue.let_yielding()
    return queue.turns()


class _Queue:
    """The decision while it is made.

    Parameters
    ----------
    order:
        The contenders by rank.
    free:
        By node, units that no pod holds.
    offered:
        By node, all its units; None where they are not known.
    """

    def __init__(
        self,
        order: Sequence[Contender],
        free: dict[str, int],
        now: datetime,
        offered: Mapping[str, int] | None,
    ) -> None:
        self._order = order
        self._packing = Packing(free)
        self._now = now
        self._offered = offered
        self._granted: dict[str, int] = {}
        self._reserved: dict[str, int] = {}
        self._kept: dict[str, int] = {}
        self._rooms: dict[tuple[AbstractSet[str], int], int] = {}

    def keep(self) -> None:
        """Pods that were asked for stay while there is a device for them.

        Those that the scheduler has not judged yet stay in any case. Of those that no node takes, those stay
        that get the device of a pod that is being stopped.
        """
        for one in self._order:
            asked = min(one.asked, one.wanted)
            lacking = max(asked - one.placed, 0)
            staying = one.elastic or one.rolling or one.refused
            self._granted[one.uid] = asked if staying else asked - min(one.homeless, lacking)
            if one.refused or one.yields:
                continue
            replacing = min(one.stopping, lacking)
            kept = sum(self._packing.put(one.nodes, one.units) for _ in range(lacking - replacing))
            self._granted[one.uid] = max(self._granted[one.uid], asked - lacking + replacing + kept)

    def keep_promises(self) -> None:
        """Those that took the place of others get the devices before all that wait."""
        for one in self._order:
            promised = 0 if one.refused or one.yields else min(one.promised, one.wanted)
            while self._granted[one.uid] < promised and self._packing.put(one.nodes, one.units):
                self._granted[one.uid] += 1

    def hand_out(self) -> None:
        """Free devices go to those that want more, one pod after the other."""
        for one, _ in sorted(self._requests(), key=lambda request: _turn_of(*request)):
            if self._could_take_kept(one):
                continue
            if one.together:
                self._hand_out_all(one)
            elif self._packing.put(one.nodes, one.units):
                self._granted[one.uid] = min(self._granted[one.uid] + 1, one.wanted)
            elif one.units > 1:
                self._reserve(one)

    def let_yielding(self) -> None:
        """Pods that could not use a free device may stay while no other one takes it."""
        for one in self._order:
            if not one.yields or one.refused:
                continue
            asked = min(one.asked, one.wanted)
            while self._granted[one.uid] < asked and self._packing.put(one.nodes, one.units):
                self._granted[one.uid] += 1

    def turns(self) -> Turns:
        """The decision."""
        granted = {one.uid: one.wanted if one.elastic else self._granted[one.uid] for one in self._order}
        lacking = [one for one in self._order if not one.refused and self._lacks(one)]
        lacking.sort(key=lambda one: _turn_of(one, self._granted[one.uid]))
        return Turns(granted, lacking, self._reserved, self._packing.free, self._kept)

    def _lacks(self, one: Contender) -> bool:
        """Whether a contender wants more than it was given. An elastic one has pods that wait."""
        waits = one.elastic and min(one.homeless, one.wanted - one.placed) > 0
        return waits or self._granted[one.uid] < one.wanted

    def _requests(self) -> list[tuple[Contender, int]]:
        """Each further pod that is wanted, and how many its contender has by then."""
        return [
            (one, have)
            for one in self._order
            if not one.refused and not one.yields
            for have in range(self._granted[one.uid], self._most(one))
        ]

    def _most(self, one: Contender) -> int:
        """Requests that are worth making: together, they are one."""
        have = self._granted[one.uid]
        return min(one.wanted, have + 1) if one.together else min(one.wanted, have + self._room(one))

    def _room(self, one: Contender) -> int:
        """Requests that could be met before any is met, and one more, which shows that no more can."""
        kind = (one.nodes, one.units)
        if kind not in self._rooms:
            free = self._packing.free
            self._rooms[kind] = 1 + sum(free.get(node, 0) // one.units for node in one.nodes)
        return self._rooms[kind]

    def _hand_out_all(self, one: Contender) -> None:
        missing = one.wanted - self._granted[one.uid]
        if self._packing.put_all(one.nodes, one.units, missing):
            self._granted[one.uid] = one.wanted
        else:
            self._reserve(one, missing)

    def _reserve(self, one: Contender, pods: int = 1) -> None:
        """Keep free devices for a contender that was passed for long enough."""
        if one.uid in self._reserved or one.since is None or self._now - one.since < PASSED_FOR:
            return
        if self._never_fits(one):
            # Others would wait for ever for what is kept.
            return
        before = dict(self._packing.free)
        kept = sum(self._packing.put(one.nodes, one.units) for _ in range(pods)) * one.units
        if kept < pods * one.units:
            kept += self._packing.withhold(one.nodes) if one.units > 1 else 0
        self._reserved[one.uid] = kept
        for node, count in before.items():
            if taken := count - self._packing.free.get(node, 0):
                self._kept[node] = self._kept.get(node, 0) + taken

    def _could_take_kept(self, one: Contender) -> bool:
        """Whether the scheduler could give a pod units that are kept for another contender.

        It chooses the node of a pod and knows of no reservation. So a device of another node stays idle.
        """
        return any(self._kept.get(node, 0) >= one.units for node in one.nodes)

    def _never_fits(self, one: Contender) -> bool:
        """Whether its nodes have too few units for all pods that it needs at once, whoever else ended."""
        if self._offered is None:
            return False
        pods = one.wanted if one.together else 1
        return sum(self._offered.get(node, 0) // one.units for node in one.nodes) < pods


def _turn_of(one: Contender, have: int) -> tuple[int, int]:
    """Sorts requests for one more pod, of contenders that are in the order of their ranks already."""
    return (-one.priority, have)
