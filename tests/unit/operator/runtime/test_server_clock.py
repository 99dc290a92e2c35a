"""The API server's time, whatever this machine's clock says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from serval_operator.runtime.server_clock import ASK_EVERY, ServerClock

pytestmark = pytest.mark.unit

TRUE = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


class Bench:
    """A machine whose clock may be moved, and an API server whose clock is right."""

    def __init__(self) -> None:
        self.passed = 0.0
        self.skew = timedelta()
        self.clock = ServerClock(
            lambda: TRUE + timedelta(seconds=self.passed) + self.skew, lambda: self.passed
        )

    def answer(self, moved: timedelta = timedelta()) -> None:
        """The API server answers; ``moved`` is how far its own clock was moved."""
        said = (TRUE + timedelta(seconds=self.passed) + moved).replace(microsecond=0)
        self.clock.hear(format_datetime(said, usegmt=True))

    def error(self) -> float:
        """Seconds by which the clock is ahead of the truth."""
        return (self.clock.now() - TRUE).total_seconds() - self.passed


def test_counts_on_its_own_clock_until_somebody_says_better() -> None:
    bench = Bench()
    bench.skew = timedelta(hours=1)
    assert bench.error() == 3600
    bench.answer()
    assert abs(bench.error()) <= 1


@pytest.mark.parametrize("moved", [timedelta(hours=1), timedelta(days=-400)])
def test_a_clock_that_is_moved_changes_nothing(moved: timedelta) -> None:
    bench = Bench()
    bench.answer()
    bench.passed = 10
    bench.skew = moved
    assert abs(bench.error()) <= 1
    bench.passed = 1000
    assert abs(bench.error()) <= 1


def test_whole_seconds_do_not_make_it_jump() -> None:
    bench = Bench()
    seen = []
    for step in range(200):
        bench.passed = step * 0.7
        bench.answer()
        seen.append(bench.clock.now())
    assert seen == sorted(seen)
    assert abs(bench.error()) <= 1


def test_follows_the_api_server_within_its_interval() -> None:
    bench = Bench()
    bench.answer()
    bench.passed = ASK_EVERY + 1
    bench.answer(timedelta(minutes=5))
    assert abs(bench.error() - 300) <= 1


@pytest.mark.parametrize("date", ["", "yesterday", "Sun, 99 Foo 2026 00:00:00 GMT"])
def test_odd_words_tell_nothing(date: str) -> None:
    bench = Bench()
    bench.clock.hear(date)
    assert bench.error() == 0
