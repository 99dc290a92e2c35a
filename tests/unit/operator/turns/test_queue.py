"""The queue for devices, case by case."""

from __future__ import annotations

from datetime import timedelta

import pytest

from serval_operator.api.naming import Key
from serval_operator.turns.queue import PASSED_FOR, Contender, Turns, take_turns
from unit.operator.turns.queueing import START, contender

pytestmark = pytest.mark.unit

ONE = {"a": 1}
NONE = {"a": 0, "b": 0}


def decide(*contenders: Contender, free: dict[str, int], later: timedelta = timedelta()) -> Turns:
    return take_turns(contenders, free, START + later)


class TestOrder:
    def test_the_oldest_comes_first(self) -> None:
        turns = decide(contender("new", 2), contender("old", 1), free=ONE)
        assert turns.granted == {"old": 1, "new": 0}

    def test_priority_comes_before_age(self) -> None:
        turns = decide(contender("old", 1), contender("urgent", 2, priority=10), free=ONE)
        assert turns.granted == {"urgent": 1, "old": 0}

    def test_of_the_same_age_the_name_decides(self) -> None:
        turns = decide(contender("b"), contender("a"), free=ONE)
        assert turns.granted == {"a": 1, "b": 0}

    def test_one_without_a_time_comes_last(self) -> None:
        turns = decide(contender("a", created=0), contender("0", created=0, nodes="a"), free=NONE)
        assert [one.uid for one in turns.waiting] == ["0", "a"]

    def test_positions_count_those_that_wait_for_the_same_nodes(self) -> None:
        turns = decide(
            contender("first", 1, nodes="a"),
            contender("elsewhere", 2, nodes="b"),
            contender("second", 3, nodes="ab"),
            free=NONE,
        )
        assert [turns.turn(uid).position for uid in ("first", "elsewhere", "second")] == [1, 1, 3]
        assert turns.turn("second").ahead == (Key("Model", "ns", "first"), Key("Model", "ns", "elsewhere"))
        assert turns.turn("first").waiting == 2

    def test_the_first_pod_of_each_comes_before_the_second_of_any(self) -> None:
        turns = decide(contender("many", 1, wanted=5), contender("one", 2), free={"a": 2})
        assert turns.granted == {"many": 1, "one": 1}

    def test_a_higher_priority_gets_all_its_pods_first(self) -> None:
        turns = decide(contender("many", 1, wanted=5, priority=1), contender("one", 2), free={"a": 2})
        assert turns.granted == {"many": 2, "one": 0}


class TestKeeping:
    def test_who_holds_a_device_keeps_it(self) -> None:
        turns = decide(contender("new", 2, placed=1, asked=1), contender("old", 1, priority=9), free=NONE)
        assert turns.granted == {"new": 1, "old": 0}

    def test_a_pod_that_was_just_made_keeps_its_device(self) -> None:
        turns = decide(contender("new", 2, asked=1), contender("old", 1), free=ONE)
        assert turns.granted == {"new": 1, "old": 0}

    def test_a_pod_that_no_node_takes_is_taken_back(self) -> None:
        turns = decide(contender("x", asked=1, homeless=1), free=NONE)
        assert turns.granted == {"x": 0}
        assert turns.turn("x").position == 1

    def test_it_stays_where_a_device_came_free_since(self) -> None:
        turns = decide(contender("x", 2, asked=1, homeless=1), contender("old", 1), free=ONE)
        assert turns.granted == {"x": 1, "old": 0}

    def test_it_stays_where_an_autoscaler_has_to_see_it(self) -> None:
        turns = decide(contender("x", wanted=3, asked=3, homeless=3, elastic=True), free=NONE)
        assert turns.granted == {"x": 3}
        assert turns.turn("x").position == 1

    def test_it_stays_while_its_predecessor_is_stopped(self) -> None:
        turns = decide(contender("x", 2, asked=1, homeless=1, stopping=1), contender("old", 1), free=NONE)
        assert turns.granted == {"x": 1, "old": 0}

    def test_the_device_of_a_predecessor_that_is_stopped_is_not_taken_twice(self) -> None:
        turns = decide(contender("x", asked=1, homeless=1, stopping=1), contender("y", 1), free=ONE)
        assert turns.granted == {"x": 1, "y": 1}

    def test_a_rollout_keeps_what_it_asked_for(self) -> None:
        turns = decide(contender("x", 2, asked=1, homeless=1, rolling=True), contender("old", 1), free=ONE)
        assert turns.granted == {"x": 1, "old": 0}

    def test_fewer_wanted_pods_are_obeyed(self) -> None:
        turns = decide(contender("x", wanted=1, asked=3, placed=3), free=NONE)
        assert turns.granted == {"x": 1}


class TestBlocking:
    def test_who_is_refused_blocks_nobody_and_keeps_trying(self) -> None:
        turns = decide(contender("refused", 1, asked=1, refused=True), contender("next", 2), free=ONE)
        assert turns.granted == {"refused": 1, "next": 1}
        assert turns.waiting == []

    def test_who_cannot_use_a_free_device_lets_others_try(self) -> None:
        stuck = contender("stuck", 1, asked=1, homeless=1, yields=True)
        assert decide(stuck, contender("next", 2), free=ONE).granted == {"stuck": 0, "next": 1}
        assert decide(stuck, free=ONE).granted == {"stuck": 1}

    def test_a_promised_device_goes_past_the_queue(self) -> None:
        turns = decide(contender("taker", 2, promised=1), contender("old", 1), free=ONE)
        assert turns.granted == {"taker": 1, "old": 0}

    def test_a_promise_waits_for_the_device(self) -> None:
        assert decide(contender("taker", promised=1), free=NONE).granted == {"taker": 0}

    def test_a_node_that_only_one_can_use_is_left_to_it(self) -> None:
        turns = decide(contender("any", 1), contender("picky", 2, nodes="a"), free={"a": 1, "b": 1})
        assert turns.granted == {"any": 1, "picky": 1}


class TestSeveralAtOnce:
    def test_all_or_none(self) -> None:
        gang = contender("gang", 1, wanted=3, together=True)
        assert decide(gang, free={"a": 2}).granted == {"gang": 0}
        assert decide(gang, free={"a": 2, "b": 1}).granted == {"gang": 3}

    def test_nothing_is_kept_for_more_pods_than_there_are_devices(self) -> None:
        gang = contender("gang", 1, wanted=2, together=True, since=START)
        other = contender("other", 2, wanted=1, together=True, since=START)
        for offered, granted in (({"a": 2}, 0), ({"a": 1}, 1), ({"a": 1, "b": 1}, 0)):
            turns = take_turns((gang, other), {"a": 1}, START + PASSED_FOR, offered)
            assert turns.granted == {"gang": 0, "other": granted}

    def test_smaller_requests_pass_for_a_while(self) -> None:
        gang = contender("gang", 1, wanted=3, together=True, since=START)
        small = contender("small", 2)
        assert decide(gang, small, free={"a": 2}).granted == {"gang": 0, "small": 1}
        late = decide(gang, small, free={"a": 2}, later=PASSED_FOR)
        assert late.granted == {"gang": 0, "small": 0}
        assert late.turn("gang").reserved == 2

    def test_a_pod_of_several_units_is_passed_for_a_while(self) -> None:
        large = contender("large", 1, units=2, since=START)
        small = contender("small", 2)
        free = {"a": 1, "b": 0}
        assert decide(large, small, free=free).granted == {"large": 0, "small": 1}
        late = decide(large, small, free=free, later=PASSED_FOR)
        assert late.granted == {"large": 0, "small": 0}
        assert late.turn("large").reserved == 1

    def test_it_keeps_one_node_and_not_all(self) -> None:
        large = contender("large", 1, units=2, since=START)
        small = [contender(f"on-{node}", 2, nodes=[node]) for node in ("a", "b")]
        late = decide(large, *small, free={"a": 1, "b": 1}, later=PASSED_FOR)
        assert sorted(late.granted.values()) == [0, 0, 1]

    def test_one_that_the_scheduler_could_give_what_is_kept_waits_too(self) -> None:
        large = contender("large", 1, units=2, since=START)
        late = decide(large, contender("small", 2), free={"a": 1, "b": 1}, later=PASSED_FOR)
        assert late.granted == {"large": 0, "small": 0}


def test_a_stranger_in_the_queue_is_an_error() -> None:
    with pytest.raises(KeyError):
        decide(free=ONE).turn("nobody")
