"""A value that all callers share: how often it is requested, who waits for it, and for how long."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest

from serval_operator.cluster.kept import OLDEST, PATIENCE, REST, Fault, Kept
from serval_operator.errors import Transient

pytestmark = pytest.mark.unit

VALID = 3.0
QUICK = 0.5
SLOW = 8.0
NO = Transient(500, "InternalError", "no")


class Source:
    """What a value is requested from; its answers are numbered.

    Attributes
    ----------
    seconds:
        The time; nothing but tests lets it pass.
    sent:
        When each request was sent.
    takes:
        How long a request takes. With None, it takes until it is answered.
    error:
        What requests end with.
    ended:
        How many requests have ended.
    pauses:
        Seconds that callers waited for the end of a pause.
    late:
        How often an answer came after a caller left without one.
    """

    def __init__(self, takes: float | None = 0.0, patience: float = PATIENCE) -> None:
        self.seconds = 100.0
        self.sent: list[float] = []
        self.takes = takes
        self.error: Exception | None = None
        self.late = 0
        self.pauses: list[float] = []
        self.ended = 0
        self.fault = Fault("it cannot be read")
        self._answers: list[asyncio.Future[None]] = []
        self.kept = Kept(
            self._request,
            VALID,
            lambda: self.seconds,
            self.fault,
            "it",
            late=self._came,
            patience=patience,
            sleep=self._sleep,
        )

    async def _sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.pauses.append(seconds)
        self.seconds += seconds

    async def _request(self) -> int:
        self.sent.append(self.seconds)
        number = len(self.sent)
        if self.takes is None:
            answer = asyncio.get_running_loop().create_future()
            self._answers.append(answer)
            await answer
        else:
            self.seconds += self.takes
        self.ended += 1
        if self.error:
            raise self.error
        return number

    def _came(self) -> None:
        self.late += 1

    def answer(self, after: float) -> None:
        """Answer the request under way, once so many seconds have passed."""
        self.seconds += after
        self._answers.pop(0).set_result(None)

    async def under_way(self, count: int = 1) -> None:
        """Wait until so many requests were sent."""
        await eventually(lambda: len(self.sent) == count)


async def eventually(check: Callable[[], bool]) -> None:
    """Let the other tasks run until something holds."""
    for _ in range(100):
        if check():
            return
        await asyncio.sleep(0)
    pytest.fail("it never held")


async def slow() -> Source:
    """A source whose first request took longer than callers wait, and was answered to its first caller."""
    source = Source(takes=None)
    first = asyncio.create_task(source.kept.get())
    await source.under_way()
    source.answer(after=SLOW)
    assert await first == 1
    return source


class TestPace:
    async def test_an_answer_is_shared_and_ages(self) -> None:
        source = Source()
        assert await asyncio.gather(*(source.kept.get() for _ in range(20))) == [1] * 20
        source.seconds += VALID
        assert await source.kept.get() == 1
        source.seconds += 0.1
        assert await source.kept.get() == 2

    async def test_an_answer_that_took_long_is_valid_for_longer(self) -> None:
        source = await slow()
        source.seconds += REST * SLOW
        assert await source.kept.get() == 1
        assert source.sent == [100]
        source.seconds += 0.1
        assert await source.kept.get() == 1
        await source.under_way(2)

    async def test_an_answer_is_valid_until_the_pause_is_over(self) -> None:
        source = Source(takes=PATIENCE)
        assert await source.kept.get() == 1
        source.seconds += REST * PATIENCE
        assert await source.kept.get() == 1
        assert (source.sent, source.pauses) == ([100], [])

    async def test_fresh_callers_share_a_request_that_was_sent_after_they_asked(self) -> None:
        source = Source(takes=None)
        early = asyncio.create_task(source.kept.get())
        await source.under_way()
        source.seconds += QUICK
        fresh = [asyncio.create_task(source.kept.get(fresh=True)) for _ in range(5)]
        await asyncio.sleep(0)
        source.answer(after=0.0)
        assert await early == 1
        await source.under_way(2)
        source.answer(after=0.0)
        assert await asyncio.gather(*fresh) == [2] * 5
        assert len(source.sent) == 2

    async def test_a_fresh_caller_waits_for_the_end_of_the_pause(self) -> None:
        source = Source(takes=QUICK)
        assert await source.kept.get() == 1
        assert await source.kept.get(fresh=True) == 2
        assert source.pauses == [pytest.approx(REST * QUICK)]

    async def test_a_request_that_fails_is_repeated_after_a_pause(self) -> None:
        source = Source()
        source.error = NO
        assert await source.kept.get() is None
        assert await source.kept.get(fresh=True) is None
        source.seconds += VALID - 0.1
        assert await source.kept.get() is None
        assert len(source.sent) == 1
        source.error = None
        source.seconds += 0.1
        assert await source.kept.get() == 2

    async def test_a_failure_that_took_long_has_a_long_pause(self) -> None:
        source = Source(takes=SLOW)
        source.error = NO
        await source.kept.get()
        source.seconds += REST * SLOW - 0.1
        await source.kept.get()
        assert len(source.sent) == 1
        source.seconds += 0.1
        await source.kept.get()
        await source.under_way(2)


class TestWaiting:
    async def test_ends_although_the_request_goes_on_for_later_callers(self) -> None:
        source = Source(takes=None, patience=0.01)
        assert await asyncio.gather(*(source.kept.get(fresh=fresh) for fresh in (False, True))) == [None] * 2
        assert len(source.sent) == 1
        source.answer(after=0.0)
        await eventually(lambda: source.late == 1)
        assert await source.kept.get() == 1

    async def test_is_not_longer_for_those_who_come_later(self) -> None:
        source = Source(takes=None)
        early = asyncio.create_task(source.kept.get())
        await source.under_way()
        source.seconds += PATIENCE
        assert await source.kept.get() is None
        source.answer(after=0.0)
        assert await early == 1

    async def test_a_caller_that_is_cancelled_takes_nothing_from_the_others(self) -> None:
        source = Source(takes=None)
        first, second = (asyncio.create_task(source.kept.get()) for _ in range(2))
        await source.under_way()
        first.cancel()
        await asyncio.wait([first])
        source.answer(after=0.0)
        assert await second == 1
        assert len(source.sent) == 1

    async def test_all_who_wait_for_a_failure_are_told_at_once(self) -> None:
        source = Source(takes=None)
        callers = [asyncio.create_task(source.kept.get(fresh=True)) for _ in range(12)]
        await source.under_way()
        source.error = NO
        source.answer(after=1.0)
        assert await asyncio.gather(*callers) == [None] * 12
        assert len(source.sent) == 1

    async def test_is_not_done_for_what_took_too_long_the_last_time(self) -> None:
        source = await slow()
        source.seconds += REST * SLOW + 0.1
        async with asyncio.timeout(PATIENCE / 2):
            assert await source.kept.get() == 1
            assert await source.kept.get(fresh=True) is None
        await source.under_way(2)
        source.answer(after=QUICK)
        await eventually(lambda: source.ended == 2)
        source.takes = 0.0
        assert await source.kept.get(fresh=True) == 3

    async def test_an_older_answer_will_do_for_a_while(self) -> None:
        source = Source()
        assert await source.kept.get() == 1
        source.error = NO
        source.seconds += OLDEST
        assert await source.kept.get() == 1
        assert await source.kept.get(fresh=True) is None
        source.seconds += VALID
        assert await source.kept.get() is None

    async def test_only_who_got_nothing_is_told_of_an_answer(self) -> None:
        source = Source()
        await source.kept.get()
        source.seconds += VALID + 0.1
        await source.kept.get()
        assert source.late == 0
        source.error = NO
        source.seconds += OLDEST + 0.1
        assert await source.kept.get() is None
        source.error = None
        source.seconds += VALID
        assert await source.kept.get() == 4
        assert source.late == 1


class TestFault:
    async def test_that_lasts_is_logged_once(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        source = Source()
        source.error = NO
        for _ in range(5):
            await source.kept.get()
            source.seconds += VALID
        assert source.fault.lasts
        source.error = None
        await source.kept.get()
        assert not source.fault.lasts
        assert caplog.messages == [f"it cannot be read: {NO}", "no longer: it cannot be read"]

    def test_of_several_sources_ends_with_the_last(self, caplog: pytest.LogCaptureFixture) -> None:
        fault = Fault("no")
        for source in ("one", "other"):
            fault.failed(source, NO)
        fault.passed("one")
        assert fault.lasts
        fault.passed("other")
        assert not fault.lasts
        assert caplog.messages == [f"no: {NO}"]


async def test_a_value_that_is_not_needed_any_more_has_no_fault() -> None:
    source = Source()
    source.error = Transient(500, "", "away")
    await source.kept.get()
    assert source.fault.lasts
    source.seconds += 1000
    source.takes = None
    last = asyncio.create_task(source.kept.get())
    await source.under_way(2)
    source.kept.drop()
    assert not source.fault.lasts
    source.answer(after=0.1)
    await last
    assert not source.fault.lasts, "its last request ended after it was dropped"
