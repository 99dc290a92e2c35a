"""Namespaces and kinds take turns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serval_operator.api.naming import Key
from serval_operator.runtime.fair_queue import FairQueue

pytestmark = pytest.mark.unit

KEYS = st.builds(
    Key, st.sampled_from(["A", "B"]), st.sampled_from(["one", "two", "three"]), st.text("xyz", min_size=1)
)


def taken(queue: FairQueue) -> list[Key]:
    keys = []
    while queue:
        keys.append(queue.take())
    return keys


def test_many_of_one_namespace_delay_no_other() -> None:
    queue = FairQueue()
    for number in range(1000):
        queue.put(Key("A", "busy", str(number)))
    queue.put(Key("A", "calm", "x"))
    queue.put(Key("B", "busy", "x"))
    first = [queue.take() for _ in range(3)]
    assert first == [Key("A", "busy", "0"), Key("A", "calm", "x"), Key("B", "busy", "x")]


@given(st.lists(KEYS))
def test_gives_each_key_once_and_in_order_within_its_group(keys: list[Key]) -> None:
    queue = FairQueue()
    for key in keys:
        queue.put(key)
    found = taken(queue)
    assert sorted(found) == sorted(keys)
    for group in {(key.kind, key.namespace) for key in keys}:
        assert [one for one in found if one[:2] == group] == [one for one in keys if one[:2] == group]


@given(st.lists(KEYS, min_size=1), st.lists(KEYS))
def test_a_key_waits_for_at_most_one_of_each_other_group(before: list[Key], others: list[Key]) -> None:
    queue = FairQueue()
    for key in before:
        queue.put(key)
    mine = Key("C", "mine", "x")
    queue.put(mine)
    for key in others:
        queue.put(key)
    place = taken(queue).index(mine)
    assert place <= len({key[:2] for key in before})


def test_forgets() -> None:
    queue = FairQueue()
    queue.put(Key("A", "one", "x"))
    queue.clear()
    assert not queue
