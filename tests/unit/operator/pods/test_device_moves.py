"""Pods whose device stays of no use: the table of when one is moved, and what damping makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from serval_operator.api.snapshots import parse_pod
from serval_operator.conversion_reasons import DEVICE_UNHEALTHY
from serval_operator.pods.device_faults import FaultyDevice
from serval_operator.pods.device_moves import (
    COUNTS_FOR,
    FREE_UNKNOWN,
    LONGEST_PAUSE,
    NOTHING_FREE,
    ONE_AT_A_TIME,
    PATIENCE,
    REPLACED,
    SHORTEST_PAUSE,
    STAYS_FOR,
    Move,
    Record,
    plan_move,
    read_record,
    where_free,
)
from support import gen

pytestmark = pytest.mark.unit

NOW = 10_000.0


def faulty(name: str, since: float | None) -> FaultyDevice:
    pod = parse_pod(gen.pod(name, gen.ready(), gen.unready))
    return FaultyDevice(pod, DEVICE_UNHEALTHY, "too hot", None if since is None else gen.moment(since))


def moved(count: int, ago: float) -> Record:
    return Record(count, gen.moment(NOW - ago), "digits-0", "node-a")


@dataclass(frozen=True)
class Row:
    """What is seen, and what is decided.

    Parameters
    ----------
    faulty:
        By name of a pod: for how many seconds its device has been of no use.
    """

    name: str
    faulty: dict[str, float | None]
    pod: str = ""
    outlook: str = ""
    again: float | None = None
    busy: bool = False
    record: Record | None = None
    free: int | None = 1


ROWS = [
    Row("nothing is wrong", {}),
    Row("nothing is wrong any more", {}, record=moved(1, 5)),
    Row("for a moment", {"a": 5}, outlook=PATIENCE, again=25),
    Row("nobody knows since when", {"a": None}, outlook=PATIENCE, again=30),
    Row("since a time to come", {"a": -50}, outlook=PATIENCE, again=30),
    Row("for a moment, and nothing is free", {"a": 5}, outlook=PATIENCE, again=25, free=0),
    Row("for long, and a device is free", {"a": 31}, pod="a", outlook=REPLACED),
    Row("for exactly as long", {"a": 30}, pod="a", outlook=REPLACED),
    Row("for long, and nothing is free", {"a": 900}, outlook=NOTHING_FREE, again=30, free=0),
    Row("for long, and nobody knows what is free", {"a": 900}, outlook=FREE_UNKNOWN, again=30, free=None),
    Row("the one that has it longest", {"a": 40, "b": 90}, pod="b", outlook=REPLACED, free=5),
    Row("a pod stops or starts", {"a": 90}, outlook=ONE_AT_A_TIME, busy=True),
    Row("a pod was moved a moment ago", {"a": 35}, outlook="1 pod was", again=20, record=moved(1, 40)),
    Row("the first pause is over", {"a": 35}, pod="a", outlook=REPLACED, record=moved(1, 60)),
    Row("the second pause is longer", {"a": 35}, outlook="2 pods were", again=60, record=moved(2, 60)),
    Row("pauses do not grow for ever", {"a": 35}, pod="a", outlook=REPLACED, record=moved(99, 1800)),
    Row("nor end too early", {"a": 35}, outlook="99 pods were", again=1, record=moved(99, 1799)),
]


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_the_table(row: Row) -> None:
    now = gen.moment(NOW)
    found = [faulty(name, None if ago is None else NOW - ago) for name, ago in row.faulty.items()]
    move = where_free(plan_move(found, busy=row.busy, record=row.record, now=now), row.free, now)
    assert (move.pod.name if move.pod else "") == row.pod
    assert move.outlook.startswith(row.outlook)
    assert bool(move.outlook) == bool(row.faulty)
    assert move.again == row.again
    before = row.record.count if row.record else 0
    after = move.record.count if move.record else 0
    assert after == before + bool(row.pod)
    if row.pod and move.record:
        assert (move.record.last, move.record.pod) == (now, row.pod)


@pytest.mark.parametrize(
    ("kept", "record"),
    [
        (moved(3, 60).as_json(), moved(3, 60)),
        (moved(3, COUNTS_FOR.total_seconds()).as_json(), moved(3, COUNTS_FOR.total_seconds())),
        (moved(3, COUNTS_FOR.total_seconds() + 1).as_json(), None),
        (moved(3, -7200).as_json(), moved(3, 0)),
        ({**moved(3, 60).as_json(), "count": 0}, None),
        ({**moved(3, 60).as_json(), "count": "many"}, None),
        ({**moved(3, 60).as_json(), "lastTime": "yesterday"}, None),
        ({}, None),
        ("text", None),
    ],
    ids=[
        "counts",
        "just counts",
        "is over",
        "of another clock",
        "none",
        "no number",
        "no time",
        "empty",
        "no object",
    ],
)
def test_what_the_status_remembers(kept: Any, record: Record | None) -> None:
    assert read_record({"deviceMoves": kept}, gen.moment(NOW)) == record


def test_a_device_that_is_given_again_and_again_costs_few_pods() -> None:
    """The plugin does not notice the fault, and each next pod gets a device that is of no use."""
    status: dict[str, Any] = {}
    moves: list[float] = []
    began = 0.0
    for second in range(0, 6 * 3600, 5):
        now = gen.moment(second)
        record = read_record(status, now)
        move = where_free(plan_move([faulty("a", began)], busy=False, record=record, now=now), 1, now)
        if move.record:
            status = {"deviceMoves": move.record.as_json()}
        if move.pod:
            moves.append(second)
            began = second + 5
    gaps = [after - before for before, after in pairwise(moves)]
    assert moves[0] == STAYS_FOR.total_seconds()
    assert gaps == sorted(gaps)
    assert gaps[0] >= SHORTEST_PAUSE.total_seconds()
    assert gaps[-1] == LONGEST_PAUSE.total_seconds()
    assert len(moves) < 20


def test_moves_of_long_ago_are_forgotten() -> None:
    later = gen.moment(NOW) + COUNTS_FOR + timedelta(seconds=1)
    assert read_record({"deviceMoves": moved(9, 0).as_json()}, later) is None
    assert plan_move([], busy=False, record=None, now=later) == Move()
