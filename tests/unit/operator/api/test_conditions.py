"""Conditions: times move on flips alone, the order is fixed, messages are bounded."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta, timezone

import pytest

from serval_operator.api.conditions import Condition, ConditionStatus, find, format_time, merge
from serval_operator.workload.status import CONDITIONS
from support import gen

pytestmark = pytest.mark.unit


def merged(previous: list[gen.Object], *wanted: Condition, after: float = 60.0) -> list[gen.Object]:
    return merge(previous, wanted, order=CONDITIONS, generation=2, now=gen.moment(after))


class TestMerge:
    def test_a_new_condition(self) -> None:
        assert merged([], Condition("Ready", "False", "Progressing", "words")) == [
            {
                "type": "Ready",
                "status": "False",
                "observedGeneration": 2,
                "lastTransitionTime": gen.stamp(60),
                "reason": "Progressing",
                "message": "words",
            }
        ]

    @pytest.mark.parametrize(
        ("before", "after"), list(itertools.product(("True", "False", "Unknown"), repeat=2))
    )
    def test_the_time_moves_only_when_the_status_flips(
        self, before: ConditionStatus, after: ConditionStatus
    ) -> None:
        old = merged([], Condition("Ready", before, "OldReason", "old words"), after=0)
        (new,) = merged(old, Condition("Ready", after, "NewReason", "new words"), after=60)
        assert new["lastTransitionTime"] == gen.stamp(60 if before != after else 0)
        assert (new["status"], new["reason"], new["message"]) == (after, "NewReason", "new words")

    def test_a_condition_without_a_time_gets_one(self) -> None:
        (new,) = merged([{"type": "Ready", "status": "True"}], Condition("Ready", "True", "Serving", ""))
        assert new["lastTransitionTime"] == gen.stamp(60)

    def test_what_is_not_wanted_any_more_goes(self) -> None:
        old = merged([], Condition("Ready", "False", "A", ""), Condition("Reconciling", "True", "A", ""))
        assert [one["type"] for one in merged(old, Condition("Ready", "True", "B", ""))] == ["Ready"]

    def test_the_order_is_fixed(self) -> None:
        wanted = [Condition(kind, "True", "Done", "") for kind in reversed(CONDITIONS)]
        assert tuple(one["type"] for one in merged([], *wanted)) == CONDITIONS

    def test_long_messages_are_cut(self) -> None:
        (new,) = merged([], Condition("Ready", "False", "A", "x" * 5000))
        assert new["message"] == "x" * 1024

    def test_its_own_result_stays_as_it_is(self) -> None:
        wanted = [Condition(kind, "True", "Done", kind) for kind in CONDITIONS]
        once = merged([], *wanted, after=0)
        assert merged(once, *wanted, after=60) == once


class TestFind:
    def test_by_type(self) -> None:
        conditions = merged([], Condition("Ready", "True", "A", ""), Condition("Available", "True", "B", ""))
        assert find(conditions, "Available")["reason"] == "B"

    def test_nothing(self) -> None:
        assert find([], "Ready") == {}


class TestFormatTime:
    @pytest.mark.parametrize(
        ("moment", "text"),
        [
            (gen.START, "2026-01-02T03:04:05Z"),
            (gen.START + timedelta(milliseconds=999), "2026-01-02T03:04:05Z"),
            (datetime(2026, 1, 2, 5, 4, 5, tzinfo=timezone(timedelta(hours=2))), "2026-01-02T03:04:05Z"),
        ],
    )
    def test_as_the_api_server_writes_it(self, moment: datetime, text: str) -> None:
        assert format_time(moment) == text
