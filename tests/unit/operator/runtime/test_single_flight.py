from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from serval_operator.errors import Transient
from serval_operator.runtime.single_flight import SingleFlight
from support.clock import FakeClock, settle

NOW = FakeClock().now


class Requests:
    """Requests that are answered only when a test says so."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.sent: list[asyncio.Future[str]] = []
        self.flights = SingleFlight(self._send, self.clock)
        self.callers: list[asyncio.Task[str]] = []

    async def _send(self) -> str:
        answer = asyncio.get_running_loop().create_future()
        self.sent.append(answer)
        result: str = await answer
        return result

    async def call(self, least: float = NOW, times: int = 1) -> list[asyncio.Task[str]]:
        made = [asyncio.create_task(self.flights.get(least)) for _ in range(times)]
        self.callers += made
        await settle()
        return made


@pytest.fixture
async def requests() -> AsyncIterator[Requests]:
    requests = Requests()
    yield requests
    for caller in requests.callers:
        caller.cancel()
    await asyncio.gather(*requests.callers, return_exceptions=True)


async def test_callers_share_an_answer(requests: Requests) -> None:
    callers = await requests.call(times=5)
    requests.sent[0].set_result("one")
    assert await asyncio.gather(*callers) == ["one"] * 5
    assert len(requests.sent) == 1
    (later,) = await requests.call()
    requests.sent[1].set_result("two")
    assert await later == "two"


async def test_callers_share_a_failure_and_none_waits_for_another_request(requests: Requests) -> None:
    callers = await requests.call(times=5)
    requests.sent[0].set_exception(Transient(0, "Timeout", "no answer in time"))
    await settle()
    assert [type(caller.exception()) for caller in callers if caller.done()] == [Transient] * 5
    assert len(requests.sent) == 1


async def test_a_caller_that_is_cancelled_takes_nothing_from_the_others(requests: Requests) -> None:
    first, second = await requests.call(times=2)
    first.cancel()
    await settle()
    assert first.cancelled()
    requests.sent[0].set_result("one")
    assert await second == "one"
    assert len(requests.sent) == 1


async def test_a_request_ends_with_its_last_caller(requests: Requests) -> None:
    first, second = await requests.call(times=2)
    first.cancel()
    second.cancel()
    # It comes before the request has ended, and must not end with it.
    (third,) = await requests.call()
    assert requests.sent[0].cancelled()
    requests.sent[1].set_result("two")
    assert await third == "two"


async def test_who_needs_a_newer_answer_shares_the_next_request(requests: Requests) -> None:
    (old,) = await requests.call()
    requests.clock.now += 1
    new = await requests.call(requests.clock.now, times=3)
    assert len(requests.sent) == 1
    requests.sent[0].set_exception(Transient(503, "", "away"))
    await settle()
    assert isinstance(old.exception(), Transient)
    assert len(requests.sent) == 2
    requests.sent[1].set_result("two")
    assert await asyncio.gather(*new) == ["two"] * 3
