from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import pytest

from serval_operator.api.naming import Key
from serval_operator.errors import Conflict, Fenced, Transient
from serval_operator.runtime.metrics import Metrics
from serval_operator.runtime.work_queue import (
    AGAIN,
    DONE,
    FIRST_BACKOFF,
    LONGEST_BACKOFF,
    MANY_RESTS,
    REST,
    SHORTEST_PAUSE,
    WorkQueue,
    resync,
)
from support.clock import FakeClock, settle

A, B, C = (Key("ModelDeployment", "n", name) for name in "abc")


class Bench:
    """A queue on a clock of its own, and a reconcile that a test steers."""

    def __init__(self, workers: int = 2) -> None:
        self.clock = FakeClock()
        self.started: list[Key] = []
        self.times: list[float] = []
        self.outcomes: list[str] = []
        self.does: Callable[[Key], Awaitable[float | None]] = self.nothing
        self.queue = WorkQueue(
            self.reconcile, workers=workers, meter=self, clock=self.clock, jitter=lambda: 1.0
        )
        self.running = asyncio.ensure_future(self.queue.run())

    async def reconcile(self, key: Key) -> float | None:
        self.started.append(key)
        self.times.append(self.clock.now)
        return await self.does(key)

    def reconciled(self, kind: str, outcome: str, seconds: float) -> None:
        assert kind == "ModelDeployment"
        assert seconds >= 0
        self.outcomes.append(outcome)

    async def nothing(self, _: Key) -> float | None:
        return None

    def fails(self, *errors: Exception) -> None:
        """Fail with these, one after another, and then no more."""
        left = list(errors)

        async def fail(_: Key) -> None:
            if left:
                raise left.pop(0)

        self.does = fail

    def gaps(self) -> list[float]:
        """Seconds between reconciles."""
        return [after - before for before, after in zip(self.times, self.times[1:], strict=False)]

    async def end(self) -> None:
        self.running.cancel()
        with suppress(asyncio.CancelledError, ValueError):
            await self.running


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    await settle()
    yield bench
    await bench.end()


# --- once, and never twice at a time --------------------------------------------------------------------


async def test_a_key_added_many_times_is_reconciled_once(bench: Bench) -> None:
    for _ in range(5):
        bench.queue.add(A)
    bench.queue.add(B)
    await settle()
    assert bench.started == [A, B]
    assert bench.outcomes == [DONE, DONE]


async def test_what_comes_while_a_key_is_reconciled_leads_to_one_more(bench: Bench) -> None:
    gate, running, most = asyncio.Event(), 0, 0

    async def slow(_: Key) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await gate.wait()
        running -= 1

    bench.does = slow
    bench.queue.add(A)
    await settle()
    for _ in range(5):
        bench.queue.add(A)
    await settle()
    assert bench.started == [A]
    gate.set()
    await settle()
    assert bench.started == [A], "it rests first"
    await bench.clock.advance(REST)
    assert bench.started == [A, A]
    assert most == 1


async def test_a_key_rests_after_a_reconcile_and_a_calm_one_waits_for_nothing(bench: Bench) -> None:
    bench.queue.add(A)
    await settle()
    for _ in range(3):
        bench.queue.add(A)
        await bench.clock.advance(REST / 4)
    assert bench.started == [A]
    await bench.clock.advance(REST)
    assert bench.started == [A, A]
    await bench.clock.advance(10 * REST)
    bench.queue.add(A)
    await settle()
    assert bench.started == [A, A, A]


async def test_rests_that_are_over_are_forgotten(bench: Bench) -> None:
    for number in range(MANY_RESTS + 50):
        bench.queue.add(Key("ModelDeployment", "a", str(number)))
        await bench.clock.advance(2 * REST)
    assert len(bench.queue._not_before) <= MANY_RESTS


async def test_as_many_keys_at_a_time_as_workers(bench: Bench) -> None:
    gate = asyncio.Event()

    async def slow(_: Key) -> None:
        await gate.wait()

    bench.does = slow
    for key in (A, B, C):
        bench.queue.add(key)
    await settle()
    assert bench.started == [A, B]
    state = bench.queue.state()
    assert (state.workers, state.waiting, state.active) == (2, 1, 2)
    gate.set()
    await settle()
    assert bench.started == [A, B, C]


# --- coming again ---------------------------------------------------------------------------------------


async def test_a_reconcile_says_when_it_wants_to_come_again(bench: Bench) -> None:
    answers = iter([5.0, None])

    async def later(_: Key) -> float | None:
        return next(answers)

    bench.does = later
    bench.queue.add(A)
    await bench.clock.advance(4.9)
    assert len(bench.started) == 1
    await bench.clock.advance(0.2)
    assert len(bench.started) == 2
    assert bench.outcomes == [AGAIN, DONE]
    assert bench.clock.pending() == []


async def test_events_start_no_second_chain_of_timers(bench: Bench) -> None:
    async def later(_: Key) -> float | None:
        return 10.0

    bench.does = later
    for _ in range(20):
        bench.queue.add(A)
        await bench.clock.advance(0.1)
    assert len(bench.clock.pending()) == 1
    before = len(bench.started)
    await bench.clock.advance(100)
    assert len(bench.started) - before == 10


async def test_the_earliest_wish_wins(bench: Bench) -> None:
    for delay in (9.0, 3.0, 6.0):
        bench.queue.add_after(A, delay)
    assert bench.clock.pending() == [3.0]
    await bench.clock.advance(100)
    assert bench.started == [A]
    assert bench.times == [1003.0]


async def test_a_new_answer_replaces_an_older_wish(bench: Bench) -> None:
    answers = iter([5.0, None])

    async def later(_: Key) -> float | None:
        return next(answers)

    bench.does = later
    bench.queue.add(A)
    await settle()
    bench.queue.add(A)
    await bench.clock.advance(REST)
    assert bench.clock.pending() == [], "the second said that it needs no more"


# --- failures -------------------------------------------------------------------------------------------


async def test_failures_come_again_ever_more_slowly(bench: Bench) -> None:
    bench.fails(*[ValueError("x")] * 12)
    bench.queue.add(A)
    await bench.clock.advance(1000)
    doubled = [FIRST_BACKOFF * 2**number for number in range(12)]
    assert bench.gaps() == [min(pause, LONGEST_BACKOFF) for pause in doubled]
    assert bench.outcomes == ["ValueError"] * 12 + [DONE]


async def test_a_success_forgets_the_failures(bench: Bench) -> None:
    bench.fails(*[ValueError("x")] * 4)
    bench.queue.add(A)
    await bench.clock.advance(100)
    bench.fails(ValueError("x"))
    bench.queue.add(A)
    await bench.clock.advance(100)
    assert bench.gaps()[-1] == FIRST_BACKOFF


async def test_the_server_may_ask_for_a_longer_pause(bench: Bench) -> None:
    bench.fails(Transient(429, "TooManyRequests", "", retry_after=30))
    bench.queue.add(A)
    await bench.clock.advance(29.9)
    bench.queue.add(A)
    await settle()
    assert len(bench.started) == 1, "an event does not shorten what the server asked for"
    await bench.clock.advance(0.2)
    assert bench.gaps() == [30.0]


async def test_an_event_brings_a_failed_key_forward_but_not_hot(bench: Bench) -> None:
    bench.fails(*[ValueError("x")] * 8)
    bench.queue.add(A)
    await bench.clock.advance(20)
    failed_at, before = bench.times[-1], len(bench.started)
    assert bench.clock.now - failed_at > SHORTEST_PAUSE
    bench.queue.add(A)
    await settle()
    assert len(bench.started) == before + 1
    for _ in range(100):
        bench.queue.add(A)
        await bench.clock.advance(0.001)
    assert len(bench.started) == before + 1
    assert len(bench.clock.pending()) == 1
    await bench.clock.advance(SHORTEST_PAUSE)
    assert len(bench.started) == before + 2


async def test_a_failing_key_that_writes_each_time_does_not_run_hot(bench: Bench) -> None:
    async def write_and_fail(key: Key) -> None:
        bench.queue.add(key)  # the echo of its write
        raise Conflict(409, "Conflict", "x")

    bench.does = write_and_fail
    bench.queue.add(A)
    await bench.clock.advance(60)
    assert len(bench.started) <= 62


async def test_a_key_goes_on_soon_after_the_lease_came_back(bench: Bench) -> None:
    bench.fails(*[Fenced("x")] * 30)
    bench.queue.add(A)
    await bench.clock.advance(100)
    assert bench.gaps() == [SHORTEST_PAUSE] * 30
    bench.fails(ValueError("x"))
    bench.queue.add(A)
    await bench.clock.advance(100)
    assert bench.gaps()[-1] == FIRST_BACKOFF, "it was no fault of the key"


async def test_one_failing_key_does_not_hold_the_others(bench: Bench) -> None:
    async def some(key: Key) -> None:
        if key == A:
            raise ValueError("x")

    bench.does = some
    for key in (A, B, C):
        bench.queue.add(key)
    await settle()
    assert sorted(bench.started) == [A, B, C]
    assert bench.queue.state().workers == 2


async def test_the_end_of_a_worker_ends_the_queue() -> None:
    bench = Bench()

    def broken(_: str, __: str, ___: float) -> None:
        raise ValueError("broken meter")

    bench.reconciled = broken  # type: ignore[method-assign]
    bench.queue.add(A)
    with pytest.raises(ValueError, match="broken meter"):
        await bench.running


# --- looking at it --------------------------------------------------------------------------------------


async def test_the_state_tells_who_waits_and_what_hangs(bench: Bench) -> None:
    gate = asyncio.Event()

    async def slow(_: Key) -> None:
        await gate.wait()

    bench.does = slow
    assert bench.queue.state().stalled == 0
    for key in (A, B, C):
        bench.queue.add(key)
    await bench.clock.advance(7)
    state = bench.queue.state()
    assert (state.oldest, state.longest, state.stalled) == (7, 7, 7)
    gate.set()
    await bench.clock.advance(50)
    state = bench.queue.state()
    assert (state.waiting, state.active, state.oldest, state.longest, state.stalled) == (0, 0, 0, 0, 0)


async def test_a_long_idle_queue_does_not_look_stalled_when_work_comes(bench: Bench) -> None:
    async def slow(_: Key) -> None:
        await asyncio.Event().wait()

    bench.does = slow
    await bench.clock.advance(10_000)
    bench.queue.add(A)
    await bench.clock.advance(1)
    assert bench.queue.state().stalled == 1


# --- stopping -------------------------------------------------------------------------------------------


async def test_stopping_lets_finish_what_runs_and_takes_nothing_more(bench: Bench) -> None:
    gate, ended = asyncio.Event(), []

    async def slow(key: Key) -> float | None:
        await gate.wait()
        ended.append(key)
        return 1.0

    bench.does = slow
    for key in (A, B, C):
        bench.queue.add(key)
    bench.queue.add_after(Key("ModelDeployment", "n", "d"), 1)
    await settle()
    stopping = asyncio.ensure_future(bench.queue.stop(10))
    await settle()
    bench.queue.add(Key("ModelDeployment", "n", "e"))
    gate.set()
    assert await stopping is True
    assert ended == [A, B]
    await bench.running
    await bench.clock.advance(100)
    assert bench.started == [A, B]
    assert bench.queue.state().waiting == 0


async def test_stopping_cuts_off_what_takes_too_long(bench: Bench) -> None:
    cancelled = []

    async def endless(key: Key) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(key)
            raise

    bench.does = endless
    bench.queue.add(A)
    await settle()
    assert await bench.queue.stop(0.01) is False
    assert cancelled == [A]


async def test_stopping_what_never_ran() -> None:
    queue = WorkQueue(Bench.nothing, workers=1, meter=Bench, clock=FakeClock())  # type: ignore[arg-type]
    assert await queue.stop(1) is True


async def test_cancelling_the_run_ends_the_workers() -> None:
    bench = Bench()
    await settle()
    await bench.end()
    await settle()
    assert bench.queue.state().workers == 0


# --- resync ---------------------------------------------------------------------------------------------


async def test_a_resync_adds_every_key_once_in_the_interval_evenly(bench: Bench) -> None:
    task = asyncio.ensure_future(resync(bench.queue, lambda: [A, B, C], 300, bench.clock.sleep))
    await bench.clock.advance(900)
    assert bench.started == [A, B, C] * 3
    assert bench.gaps() == [100.0] * 8
    task.cancel()


async def test_a_resync_of_nothing_waits(bench: Bench) -> None:
    known: list[Key] = []
    task = asyncio.ensure_future(resync(bench.queue, lambda: known, 300, bench.clock.sleep))
    await bench.clock.advance(299)
    known.append(A)
    await bench.clock.advance(302)
    assert bench.started == [A]
    task.cancel()


async def test_a_real_event_loop_is_a_clock() -> None:
    done = asyncio.Event()
    times: list[float] = []

    async def twice(_: Key) -> float | None:
        times.append(asyncio.get_running_loop().time())
        if len(times) == 2:
            done.set()
            return None
        return 0.02

    queue = WorkQueue(twice, workers=1, meter=Metrics(), clock=asyncio.get_running_loop())
    running = asyncio.ensure_future(queue.run())
    queue.add(A)
    async with asyncio.timeout(10):
        await done.wait()
    assert times[1] - times[0] >= 0.015
    assert await queue.stop(5)
    await running


def two_lanes(reconcile: Callable[[Key], Awaitable[None]], workers: int) -> WorkQueue:
    """A queue on real time that knows the keys whose names say so."""
    return WorkQueue(
        reconcile,
        workers=workers,
        meter=Bench(),
        clock=asyncio.get_running_loop(),
        is_known=lambda key: key.name.startswith("known"),
    )


async def test_what_is_known_goes_before_what_is_new_and_what_is_new_has_its_turns() -> None:
    """One worker, twelve new keys first, then twelve known ones."""
    done: list[str] = []
    names = [f"{kind}-{number}" for kind in ("new", "known") for number in range(12)]
    over = asyncio.Event()

    async def reconcile(key: Key) -> None:
        done.append(key.name)
        if len(done) == len(names):
            over.set()

    queue = two_lanes(reconcile, workers=1)
    for name in names:
        queue.add(Key("ModelDeployment", "a", name))
    running = asyncio.ensure_future(queue.run())
    async with asyncio.timeout(5):
        await over.wait()
    assert await queue.stop(1)
    await asyncio.wait([running])
    assert sorted(done) == sorted(names)
    first = done[:12]
    assert sum(name.startswith("known") for name in first) == 9
    assert [name for name in done if name.startswith("new")] == names[:12]


async def test_new_keys_never_take_all_workers() -> None:
    """Three workers: new keys that do not end hold two, and the third goes on with what is known."""
    started: list[str] = []
    all_known, never = asyncio.Event(), asyncio.Event()

    async def reconcile(key: Key) -> None:
        started.append(key.name)
        if key.name.startswith("new"):
            await never.wait()
        elif sum(name.startswith("known") for name in started) == 3:
            all_known.set()

    queue = two_lanes(reconcile, workers=3)
    running = asyncio.ensure_future(queue.run())
    for number in range(4):
        queue.add(Key("ModelDeployment", "a", f"new-{number}"))
    await asyncio.sleep(0)
    for number in range(3):
        queue.add(Key("ModelDeployment", "a", f"known-{number}"))
    async with asyncio.timeout(5):
        await all_known.wait()
    assert sorted(name for name in started if name.startswith("new")) == ["new-0", "new-1"]
    never.set()
    assert await queue.stop(5)
    await asyncio.wait([running])


async def test_a_new_key_waits_for_nobody_while_a_worker_is_free() -> None:
    """The worker that is woken for a new key finds a known one, and takes that first."""
    new_taken = asyncio.Event()

    async def reconcile(key: Key) -> None:
        if key.name.startswith("new"):
            new_taken.set()
        else:
            await new_taken.wait()

    queue = two_lanes(reconcile, workers=3)
    running = asyncio.ensure_future(queue.run())
    # One turn of the loop starts the workers, the next brings them to where they wait.
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    queue.add(Key("ModelDeployment", "a", "new"))
    queue.add(Key("ModelDeployment", "a", "known"))
    try:
        async with asyncio.timeout(5):
            await new_taken.wait()
    finally:
        new_taken.set()
    assert await queue.stop(5)
    await asyncio.wait([running])
