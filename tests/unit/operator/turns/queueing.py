"""Contenders for tests, and a small cluster in which their pods live."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from serval_operator.api.naming import Key
from serval_operator.turns.packing import free_units
from serval_operator.turns.queue import Contender, Turns, take_turns

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def moment(seconds: float) -> datetime:
    """A time so many seconds after the start of all tests."""
    return START + timedelta(seconds=seconds)


def contender(
    name: str, created: float = 0.0, *, nodes: Iterable[str] = ("a", "b"), **facts: Any
) -> Contender:
    """A contender of a name; it wants one pod of one unit."""
    known = {"units": 1, "wanted": 1, "created": moment(created), **facts}
    return Contender(key=Key("Model", "ns", name), uid=name, nodes=frozenset(nodes), **known)


@dataclass
class World:
    """Nodes, and objects whose pods are where the scheduler put them.

    Attributes
    ----------
    offered:
        By node, its units.
    objects:
        By uid, as they are without what their pods tell.
    pods:
        By uid, the nodes of its pods.
    """

    offered: dict[str, int]
    objects: dict[str, Contender] = field(default_factory=dict)
    pods: dict[str, list[str]] = field(default_factory=dict)
    now: datetime = START

    def add(self, one: Contender) -> None:
        """An object is created. Nodes that are too small for it are none of its nodes."""
        large = frozenset(node for node in one.nodes if self.offered[node] >= one.units)
        self.objects[one.uid] = replace(one, nodes=large)
        self.pods[one.uid] = []

    def end(self, uid: str) -> None:
        """An object is deleted."""
        del self.objects[uid], self.pods[uid]

    def free(self) -> dict[str, int]:
        """By node, its free units."""
        held = [(node, one.units) for one in self.objects.values() for node in self.pods[one.uid]]
        return free_units(self.offered, held)

    def observed(self) -> list[Contender]:
        """The objects as they are seen now."""
        return [replace(one, placed=len(self.pods[one.uid])) for one in self.objects.values()]

    def decide(self) -> Turns:
        """What the queue says now."""
        return take_turns(self.observed(), self.free(), self.now, self.offered)

    def apply(self, turns: Turns) -> None:
        """Ask Kubernetes for what was granted. Those that wait say since when."""
        waiting = {one.uid for one in turns.waiting}
        for uid, count in turns.granted.items():
            one = self.objects[uid]
            since = (one.since or self.now) if uid in waiting else None
            homeless = min(one.homeless, max(count - len(self.pods[uid]), 0))
            self.objects[uid] = replace(one, asked=count, since=since, homeless=homeless)

    def schedule(self) -> None:
        """Give pods a node with room, the emptiest first; the others find none."""
        free = self.free()
        for uid, one in self.objects.items():
            del self.pods[uid][one.asked :]
            for _ in range(one.asked - len(self.pods[uid])):
                fitting = [node for node in one.nodes if free.get(node, 0) >= one.units]
                if fitting:
                    node = max(fitting, key=lambda name: (free[name], name))
                    free[node] -= one.units
                    self.pods[uid].append(node)
            self.objects[uid] = replace(one, homeless=one.asked - len(self.pods[uid]))

    def step(self) -> Turns:
        """Decide, apply it, and let the scheduler work."""
        turns = self.decide()
        self.apply(turns)
        self.schedule()
        return turns
