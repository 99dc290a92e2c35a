from __future__ import annotations

import asyncio
import math

import pytest

from serval_operator.errors import Fenced
from serval_operator.runtime.fence import fenced

LIMIT = 5.0


class Lease:
    """Answers the question for the time that is left, and counts it."""

    def __init__(self, *answers: float) -> None:
        self.answers = list(answers)
        self.asked = 0

    def __call__(self) -> float:
        self.asked += 1
        return self.answers.pop(0)


@pytest.mark.parametrize("left", [0.0, -1.0])
async def test_no_write_begins_without_the_lease(left: float) -> None:
    entered = False
    with pytest.raises(Fenced, match="PUT /x: not sent, because"):
        async with fenced(Lease(left), "PUT /x"):
            entered = True
    assert not entered


async def test_a_write_is_cut_off_when_the_time_is_over() -> None:
    async with asyncio.timeout(LIMIT):
        with pytest.raises(Fenced, match="PUT /x: cut off, because"):
            async with fenced(Lease(0.01, 0.0), "PUT /x"):
                await asyncio.Event().wait()


async def test_a_write_goes_on_while_the_lease_is_renewed() -> None:
    lease, over = Lease(*[0.001] * 5, 60.0), asyncio.Event()

    def seconds() -> float:
        left = lease()
        if not lease.answers:
            over.set()
        return left

    async with asyncio.timeout(LIMIT), fenced(seconds, "PUT /x"):
        await over.wait()
    assert lease.asked == 6


async def test_without_a_lease_nothing_is_asked_again() -> None:
    lease = Lease(math.inf)
    async with fenced(lease, "PUT /x"):
        pass
    assert lease.asked == 1


async def test_a_failure_within_stays_what_it_is() -> None:
    with pytest.raises(ValueError, match="own"):
        async with fenced(Lease(60.0), "PUT /x"):
            raise ValueError("own")


async def test_a_cancelled_write_is_cancelled() -> None:
    async def write() -> None:
        async with fenced(Lease(60.0), "PUT /x"):
            await asyncio.Event().wait()

    task = asyncio.create_task(write())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
