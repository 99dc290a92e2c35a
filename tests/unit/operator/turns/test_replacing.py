"""What it costs to decide whose place each object takes."""

from __future__ import annotations

from typing import Any

import pytest

from serval_operator.api.rivals import Rival
from serval_operator.turns.queue import Contender, Turns
from serval_operator.turns.replacing import take_places
from unit.operator.turns.test_standing import holds, rival

pytestmark = pytest.mark.unit

MANY = 200


class Counted(dict[str, int]):
    """Free units by node, which count how often somebody asks for them."""

    asked = 0

    def get(self, *args: Any) -> Any:
        """Units of a node."""
        self.asked += 1
        return super().get(*args)


def decide(free: Counted, units: int, *rivals: Rival) -> dict[str, str]:
    """Whose place each takes, by name; each taker asks for so many units at once."""
    ranked = {
        one.uid: Contender(
            key=one.key,
            uid=one.uid,
            created=one.created,
            units=units,
            nodes=frozenset({"n1"}),
            wanted=1,
            placed=one.placed,
        )
        for one in rivals
    }
    waiting = [ranked[one.uid] for one in rivals if not one.placed]
    turns = Turns({uid: one.placed for uid, one in ranked.items()}, waiting, {}, free)
    return {uid: one.name for uid, one in take_places(rivals, ranked, turns).items()}


def crowd() -> list[Rival]:
    """Objects of one namespace: half of them hold a device, half want to take the place of one."""
    takers = [rival(f"taker-{index}", index, when_busy="Replace") for index in range(MANY)]
    return [*takers, *(holds(f"old-{index:03}", index) for index in range(MANY))]


def test_places_that_are_of_no_use_are_looked_at_once_and_not_once_for_each_that_waits() -> None:
    free = Counted(n1=0)
    assert decide(free, 2, *crowd()) == {}
    assert free.asked == MANY


def test_each_takes_another_one_the_last_first() -> None:
    free = Counted(n1=0)
    found = decide(free, 1, *crowd())
    assert found == {f"taker-{index}": f"old-{MANY - 1 - index:03}" for index in range(MANY)}
    assert free.asked == MANY


def test_one_that_was_granted_a_pod_takes_no_place() -> None:
    taker = rival("taker", when_busy="Replace")
    ranked = {
        one.uid: Contender(key=one.key, uid=one.uid, units=1, nodes=frozenset({"n1"}), wanted=2)
        for one in (taker, holds("old"))
    }
    turns = Turns({"taker": 1, "old": 1}, [ranked["taker"]], {}, {})
    assert take_places((taker, holds("old")), ranked, turns) == {}
