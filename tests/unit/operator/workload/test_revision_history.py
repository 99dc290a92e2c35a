"""The history of revisions."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serval_operator.api.snapshots import RevisionView
from serval_operator.workload.revision_history import HISTORY, last_served, next_number, surplus
from unit.operator.workload.rolling import record

pytestmark = pytest.mark.unit

KEYS = "abcdefgh"
RECORDS = st.lists(
    st.builds(
        lambda key, number, served, failed: record(key, number, served=served, failed=failed),
        st.sampled_from(KEYS),
        st.integers(1, 9),
        st.booleans(),
        st.sampled_from(["", "ModelInvalid"]),
    ),
    unique_by=lambda one: one.key,
)
SETS = st.frozensets(st.sampled_from(KEYS))


def keys(records: list[RevisionView]) -> str:
    return "".join(one.key for one in records)


class TestNumber:
    def test_begins_with_one(self) -> None:
        assert next_number([]) == 1

    def test_follows_the_highest(self) -> None:
        assert next_number([record("a", 7), record("b", 3)]) == 8


class TestSurplus:
    @pytest.mark.parametrize(
        ("history", "in_use", "dropped"),
        [
            ("", "", ""),
            ("abc", "", ""),
            ("abcd", "d", ""),
            ("abcd", "", "a"),
            ("abcdef", "", "abc"),
            ("abcdef", "af", "b"),
            ("abcdef", "abc", ""),
            ("abcdef", "abcdef", ""),
            ("abcdefgh", "hz", "abcd"),
        ],
    )
    def test_the_oldest_beyond_the_limit_go(self, history: str, in_use: str, dropped: str) -> None:
        records = [record(key, number) for number, key in enumerate(history, start=1)]
        assert keys(surplus(records[::-1], in_use=frozenset(in_use))) == dropped

    def test_the_limit_is_that_of_replica_sets(self) -> None:
        assert HISTORY == 3

    def test_another_limit(self) -> None:
        records = [record(key, number) for number, key in enumerate("abcd")]
        assert keys(surplus(records, in_use=frozenset(), limit=0)) == "abcd"
        assert keys(surplus(records, in_use=frozenset("a"), limit=1)) == "bc"

    @given(RECORDS, SETS, st.integers(0, 5))
    def test_never_one_in_use_and_never_more_than_needed(
        self, records: list[RevisionView], in_use: frozenset[str], limit: int
    ) -> None:
        dropped = surplus(records, in_use=in_use, limit=limit)
        kept = [one for one in records if one not in dropped]
        assert not in_use & {one.key for one in dropped}
        assert all(one in kept for one in records if one.key in in_use)
        idle = [one for one in kept if one.key not in in_use]
        assert len(idle) == min(limit, sum(one.key not in in_use for one in records))
        assert all(old.number <= young.number for old in dropped for young in idle)
        assert surplus(kept, in_use=in_use, limit=limit) == []


class TestLastServed:
    A, B, C = record("a", 1, served=True), record("b", 2, served=True), record("c", 3)

    def test_nothing_ever_served(self) -> None:
        assert last_served([self.C], besides="c", serving="") is None
        assert last_served([record("b", 2), self.C], besides="c", serving="") is None

    def test_the_newest_that_served(self) -> None:
        assert last_served([self.B, self.A, self.C], besides="c", serving="") == self.B

    def test_the_one_that_serves_needs_no_mark(self) -> None:
        unmarked = record("a", 1)
        assert last_served([unmarked, self.B, self.C], besides="c", serving="a") == unmarked

    def test_never_the_one_to_get_away_from(self) -> None:
        served = replace(self.C, served=True)
        assert last_served([served, self.A], besides="c", serving="c") == self.A
        assert last_served([served], besides="c", serving="c") is None

    def test_never_one_that_failed(self) -> None:
        failed = record("b", 2, served=True, failed="CrashLoop")
        assert last_served([self.A, failed, self.C], besides="c", serving="b") == self.A

    def test_what_serves_and_is_not_kept_is_no_way_back(self) -> None:
        assert last_served([self.A, self.C], besides="c", serving="zzz") == self.A
