"""Who works: electors on an API server in memory, each with a clock of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from serval_operator.api.resources import LEASES
from serval_operator.errors import Conflict, Forbidden, KubeError, LeaseLost, Transient
from serval_operator.runtime import lease
from serval_operator.runtime.lease import CALL, CUT_OFF, Elector, uptime
from support.clock import FakeClock, settle
from support.fakes import Call, FakeKubeApi

NAMESPACE, NAME, SECONDS = "serval-system", "serval-operator", 15
RENEWED, GIVEN_UP = 3.0, 10.0
"""Of 15 seconds: when it is renewed, and when a holder gives up."""


class Away(FakeKubeApi):
    """An API server that one process cannot reach."""

    def __init__(self) -> None:
        super().__init__()
        self.on_call = self._fail

    def _fail(self, _: Call) -> None:
        raise Transient(0, "Unreachable", "no route")


class Setup:
    """Two electors; time passes for both, but each may be stopped, and each has a wall clock of its own."""

    def __init__(self) -> None:
        self.api = FakeKubeApi()
        self.clock = FakeClock()
        self.wall = {"a": datetime(2026, 1, 2, tzinfo=UTC), "b": datetime(2026, 1, 2, tzinfo=UTC)}
        self.electors = {name: self.elector(name) for name in self.wall}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    def elector(self, name: str, seconds: int = SECONDS) -> Elector:
        return Elector(
            self.api,
            NAMESPACE,
            NAME,
            name,
            seconds=seconds,
            clock=self.clock,
            now=lambda: self.wall[name],
            sleep=self.clock.sleep,
        )

    async def acquire(self, name: str) -> None:
        """Acquire and hold, in a task."""

        async def run() -> None:
            await self.electors[name].acquire()
            await self.electors[name].hold()

        self.tasks[name] = asyncio.create_task(run())
        await settle()

    async def stop(self, name: str) -> None:
        """Take the process away, with nothing cleaned."""
        self.tasks[name].cancel()
        with suppress(asyncio.CancelledError):
            await self.tasks[name]

    def holders(self) -> list[str]:
        return [name for name, elector in self.electors.items() if elector.held()]

    def record(self) -> dict[str, Any]:
        stored = self.api.stored(LEASES, NAMESPACE, NAME)
        assert stored is not None
        return dict(stored["spec"])

    def writes(self) -> int:
        return len(self.api.writes())


@pytest.fixture
async def at() -> AsyncIterator[Setup]:
    setup = Setup()
    yield setup
    for name in setup.tasks:
        setup.tasks[name].cancel()
    await asyncio.gather(*setup.tasks.values(), return_exceptions=True)


def failing(at: Setup, error: Exception, *verbs: str) -> None:
    def fail(call: Call) -> None:
        if not verbs or call.verb in verbs:
            raise error

    at.api.on_call = fail


async def lost(at: Setup, name: str) -> str:
    with pytest.raises(LeaseLost) as caught:
        async with asyncio.timeout(5):
            await at.tasks[name]
    return str(caught.value)


# --- acquiring and keeping ------------------------------------------------------------------------------


async def test_the_first_one_makes_the_lease(at: Setup) -> None:
    await at.acquire("a")
    assert at.holders() == ["a"]
    assert at.record() == {
        "holderIdentity": "a",
        "leaseDurationSeconds": SECONDS,
        "acquireTime": "2026-01-02T00:00:00.000000Z",
        "renewTime": "2026-01-02T00:00:00.000000Z",
        "leaseTransitions": 1,
    }
    assert at.electors["a"].standing == ""


async def test_it_is_renewed_and_the_other_waits(at: Setup) -> None:
    await at.acquire("a")
    await at.acquire("b")
    for _ in range(200):
        at.wall["a"] += timedelta(seconds=1)
        await at.clock.advance(1)
        assert at.holders() == ["a"]
    assert at.electors["b"].standing == "a"
    assert at.writes() == 1 + int(200 / RENEWED)
    assert at.record()["leaseTransitions"] == 1
    assert at.record()["acquireTime"] < at.record()["renewTime"]


async def test_two_at_the_same_moment_are_one(at: Setup) -> None:
    def other(call: Call) -> None:
        if call.verb == "create" and at.api.stored(LEASES, NAMESPACE, NAME) is None:
            at.api.on_call = lambda _: None
            spec = {"holderIdentity": "b", "leaseDurationSeconds": SECONDS, "renewTime": "now"}
            at.api.put(LEASES, {"metadata": {"namespace": NAMESPACE, "name": NAME}, "spec": spec})

    at.api.on_call = other
    await at.acquire("a")
    assert at.holders() == []
    await at.clock.advance(SECONDS - 1)
    assert at.record()["holderIdentity"] == "b"


# --- taking over ----------------------------------------------------------------------------------------


async def test_what_stays_as_it_is_for_the_lease_is_taken_over(at: Setup) -> None:
    await at.acquire("a")
    await at.acquire("b")
    await at.clock.advance(1)
    await at.stop("a")
    await at.clock.advance(SECONDS - 1.1)
    assert at.holders() == [], "the one has given up, the other must not begin yet"
    await at.clock.advance(2)
    assert at.holders() == ["b"]
    assert at.record()["leaseTransitions"] == 2


@pytest.mark.parametrize("hours", [-1000, 1000])
async def test_wall_clocks_do_not_count(at: Setup, hours: int) -> None:
    """The holder's clock, or that of the one who waits, is set to another time; nothing changes hands."""
    await at.acquire("a")
    await at.acquire("b")
    for name in ("a", "b", "a", "b"):
        at.wall[name] += timedelta(hours=hours)
        for _ in range(30):
            at.wall[name] += timedelta(seconds=1)
            await at.clock.advance(1)
            assert at.holders() == ["a"]


async def test_a_wall_clock_that_stands_still_does_not_count(at: Setup) -> None:
    await at.acquire("a")
    await at.acquire("b")
    for _ in range(60):
        await at.clock.advance(1)
        assert at.holders() == ["a"]


async def test_a_record_from_long_ago_is_watched_for_the_whole_lease(at: Setup) -> None:
    spec = {"holderIdentity": "old", "leaseDurationSeconds": SECONDS, "renewTime": "1999-01-01T00:00:00Z"}
    at.api.put(LEASES, {"metadata": {"namespace": NAMESPACE, "name": NAME}, "spec": spec})
    await at.acquire("b")
    await at.clock.advance(SECONDS - 1)
    assert at.holders() == []
    await at.clock.advance(2.5)
    assert at.holders() == ["b"]


@pytest.mark.parametrize(("claimed", "waits"), [(60, 60), (5, 15), (10**9, 600), (None, 15), ("x", 15)])
async def test_the_longer_of_two_configurations_counts(at: Setup, claimed: object, waits: float) -> None:
    spec = {"holderIdentity": "old", "leaseDurationSeconds": claimed}
    at.api.put(LEASES, {"metadata": {"namespace": NAMESPACE, "name": NAME}, "spec": spec})
    await at.acquire("b")
    await at.clock.advance(waits - 1)
    assert at.holders() == []
    await at.clock.advance(3)
    assert at.holders() == ["b"]


async def test_a_lease_that_was_deleted_still_counts_for_who_saw_it(at: Setup) -> None:
    await at.acquire("a")
    await at.acquire("b")
    await at.stop("a")
    at.api.remove(LEASES, NAMESPACE, NAME)
    await at.clock.advance(SECONDS - 1)
    assert at.api.stored(LEASES, NAMESPACE, NAME) is None
    await at.clock.advance(2)
    assert at.holders() == ["b"]


async def test_its_holder_makes_it_anew(at: Setup) -> None:
    await at.acquire("a")
    await at.acquire("b")
    at.api.remove(LEASES, NAMESPACE, NAME)
    for _ in range(60):
        await at.clock.advance(1)
        assert at.holders() == ["a"]
    assert at.record()["holderIdentity"] == "a"


async def test_somebody_elses_edit_of_the_lease_costs_nothing(at: Setup) -> None:
    await at.acquire("a")
    await at.acquire("b")
    for number in range(20):
        note = {"n": str(number)}
        at.api.edit(LEASES, NAMESPACE, NAME, lambda obj, note=note: obj["metadata"].update(annotations=note))
        await at.clock.advance(2)
        assert at.holders() == ["a"]
    stored = at.api.stored(LEASES, NAMESPACE, NAME)
    assert stored is not None
    assert stored["metadata"]["annotations"] == {"n": "19"}


# --- losing ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [Transient(503, "", "away"), Forbidden(403, "", "not any more")])
async def test_without_a_confirmation_it_is_not_held_before_others_take_over(
    at: Setup, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    await at.acquire("a")
    await at.clock.advance(RENEWED)
    failing(at, error)
    with caplog.at_level(logging.WARNING):
        await at.clock.advance(GIVEN_UP - 0.1)
        assert at.holders() == ["a"]
        await at.clock.advance(0.2)
        assert at.holders() == []
        await at.clock.advance(60)
        assert at.holders() == []
    assert at.electors["a"].trouble == str(error)
    assert [record.message for record in caplog.records] == [
        f"Lease serval-system/serval-operator: {error}",
        "Lease serval-system/serval-operator is not held; nothing is written until it is renewed",
    ]
    assert not at.tasks["a"].done(), "an API server that is away for long ends no operator"


async def test_what_was_not_renewed_for_long_is_held_again_if_nobody_took_over(at: Setup) -> None:
    await at.acquire("a")
    failing(at, Transient(503, "", "away"))
    await at.clock.advance(10 * SECONDS)
    assert at.holders() == []
    at.api.on_call = lambda _: None
    await at.clock.advance(2)
    assert at.holders() == ["a"]
    assert at.record()["leaseTransitions"] == 1


async def test_what_was_not_renewed_for_long_is_lost_if_another_took_over(at: Setup) -> None:
    await at.acquire("a")
    own, at.electors["a"]._api = at.api, Away()  # type: ignore[assignment]
    await at.acquire("b")
    await at.clock.advance(2 * SECONDS)
    assert at.holders() == ["b"]
    assert not at.tasks["a"].done()
    at.electors["a"]._api = own
    await at.clock.advance(2)
    assert await lost(at, "a") == "Lease serval-system/serval-operator is held by b"
    assert at.holders() == ["b"]


async def test_what_passes_in_time_costs_nothing(at: Setup) -> None:
    await at.acquire("a")
    failing(at, Transient(503, "", "away"))
    await at.clock.advance(GIVEN_UP - 2)
    assert at.electors["a"].trouble
    at.api.on_call = lambda _: None
    await at.clock.advance(GIVEN_UP)
    assert at.holders() == ["a"]
    assert at.electors["a"].trouble == ""


async def test_an_answer_that_was_lost_counts_from_when_it_was_asked(at: Setup) -> None:
    await at.acquire("a")

    def lose(call: Call) -> None:
        if call.verb == "update":
            raise Transient(0, "", "cut")

    at.api.on_answer = lose
    await at.clock.advance(RENEWED)
    at.api.on_answer = lambda _: None
    await at.clock.advance(2)
    assert at.holders() == ["a"], "its own write, whose answer it did not get, is no stranger's"


async def test_a_process_that_stood_still_holds_nothing_until_it_has_renewed(at: Setup) -> None:
    await at.acquire("a")
    at.clock.now += SECONDS
    assert at.holders() == [], "before anything has run"
    assert at.electors["a"].write_seconds() == 0
    writes = at.writes()
    await at.clock.advance(RENEWED)
    assert at.holders() == ["a"]
    assert at.writes() > writes


async def test_a_process_that_stood_still_while_another_took_over(at: Setup) -> None:
    await at.acquire("a")
    await at.acquire("b")
    await at.stop("a")
    await at.clock.advance(SECONDS + 2)
    assert at.holders() == ["b"]
    # What the first one had sent before, and reaches the API server only now, is refused.
    with pytest.raises(LeaseLost, match="is held by b"):
        await at.electors["a"]._confirm()
    assert at.record()["holderIdentity"] == "b"


async def test_how_long_a_write_may_be_under_way(at: Setup) -> None:
    """It ends before another process can take over, even if it begins at the last moment."""
    elector = at.electors["a"]
    assert elector.write_seconds() == 0
    await at.acquire("a")
    assert elector.write_seconds() == SECONDS * CUT_OFF
    await at.clock.advance(RENEWED)
    assert elector.write_seconds() == SECONDS * CUT_OFF
    await at.stop("a")
    await at.clock.advance(GIVEN_UP - 0.5)
    assert elector.write_seconds() == SECONDS * CUT_OFF - GIVEN_UP + 0.5
    await at.clock.advance(0.5)
    assert elector.write_seconds() == 0, "none begins any more"
    assert SECONDS * CUT_OFF < SECONDS, "the last one has ended"


# --- giving back ----------------------------------------------------------------------------------------


async def test_given_back_it_is_taken_at_once(at: Setup) -> None:
    await at.acquire("a")
    await at.acquire("b")
    await at.clock.advance(1)
    await at.stop("a")
    await at.electors["a"].release()
    assert at.holders() == []
    assert at.record()["holderIdentity"] is None
    await at.clock.advance(1.5)
    assert at.holders() == ["b"]


async def test_what_is_not_held_is_not_given_back(at: Setup) -> None:
    await at.acquire("a")
    await at.electors["b"].release()
    at.clock.now += SECONDS
    await at.stop("a")
    writes = at.writes()
    await at.electors["a"].release()
    assert at.writes() == writes


async def test_a_lease_whose_acquisition_is_interrupted_is_given_back(at: Setup) -> None:
    """A process that is told to stop while its first write is under way does not learn that it succeeded."""
    held_back = asyncio.Event()

    async def answers_late(*arguments: Any) -> Any:
        await FakeKubeApi.create(at.api, *arguments)
        held_back.set()
        await asyncio.Event().wait()

    at.api.create = answers_late  # type: ignore[method-assign]
    await at.acquire("a")
    assert held_back.is_set()
    assert at.record()["holderIdentity"] == "a"
    await at.stop("a")
    await at.electors["a"].release()
    assert at.record()["holderIdentity"] is None


@pytest.mark.parametrize(("status", "reads"), [(409, 0), (403, 0), (500, 1), (504, 1), (0, 1)])
async def test_only_a_write_that_may_have_taken_place_is_looked_for(
    at: Setup, status: int, reads: int
) -> None:
    failing(at, KubeError(status, "", "words"), "create")
    await at.acquire("a")
    await at.stop("a")
    calls = len(at.api.calls)
    await at.electors["a"].release()
    assert [call.verb for call in at.api.calls[calls:]] == ["get"] * reads


async def test_giving_back_has_a_limit_whatever_the_length_of_the_lease(
    at: Setup, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lease, "RELEASE_SECONDS", 0.01)
    await at.acquire("a")
    await at.stop("a")

    async def hang(*_: Any) -> None:
        await asyncio.Event().wait()

    at.api.get = hang  # type: ignore[assignment, method-assign]
    async with asyncio.timeout(SECONDS * CALL / 2):
        await at.electors["a"].release()
    assert "could not be given back" in caplog.text


async def test_giving_back_may_fail(at: Setup, caplog: pytest.LogCaptureFixture) -> None:
    await at.acquire("a")
    await at.stop("a")
    failing(at, Conflict(409, "", "changed"), "update")
    with caplog.at_level(logging.WARNING):
        await at.electors["a"].release()
    assert "could not be given back, others wait 15 s" in caplog.text
    assert at.holders() == []


# --- trouble --------------------------------------------------------------------------------------------


async def test_who_may_not_look_says_so_once_and_goes_on(at: Setup, caplog: pytest.LogCaptureFixture) -> None:
    failing(at, Forbidden(403, "Forbidden", "no role"))
    with caplog.at_level(logging.WARNING):
        await at.acquire("a")
        await at.clock.advance(60)
    assert at.electors["a"].trouble == "403 Forbidden: no role"
    assert at.electors["a"].standing == ""
    assert len(caplog.records) == 1
    at.api.on_call = lambda _: None
    await at.clock.advance(2)
    assert at.holders() == ["a"]


async def test_a_call_that_hangs_has_a_limit() -> None:
    class Hanging(FakeKubeApi):
        async def get(self, *_: Any) -> None:
            await asyncio.Event().wait()

    elector = Elector(Hanging(), NAMESPACE, NAME, "a", seconds=0.03)  # type: ignore[arg-type]
    acquiring = asyncio.create_task(elector.acquire())
    async with asyncio.timeout(5):
        while not elector.trouble:  # noqa: ASYNC110 - sets no event
            await asyncio.sleep(0.001)
    assert elector.trouble == "no answer in time"
    acquiring.cancel()


def test_the_clock_only_grows() -> None:
    assert 0 < uptime() <= uptime()
