"""Polling progress pages: beside the reconciles, rarely, and only as long as the pod runs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from serval_contract.progress import Progress
from serval_operator.api.naming import Key
from serval_operator.api.snapshots import parse_pod
from serval_operator.jobs.plan import ToPoll
from serval_operator.jobs.progress_poller import ProgressPoller
from support import gen

pytestmark = pytest.mark.unit

KEY = Key("Toy", "vision", "digits")
POD = parse_pod(gen.pod("a", gen.at("10.0.0.1")))
OTHER = parse_pod(gen.pod("b", gen.at("10.0.0.2")))


class Bench:
    """Pods with pages, a clock that moves only where a test moves it, and a queue."""

    def __init__(self) -> None:
        self.pages: dict[str, str | None] = {}
        self.asked: list[tuple[str, int]] = []
        self.woken: list[Key] = []
        self.pauses: list[float] = []
        self.now = 0.0
        self._sleepers: list[tuple[float, asyncio.Event]] = []
        self.poller = ProgressPoller(self, self.woken.append, self.sleep, lambda: self.now)

    async def progress(self, ip: str, port: int) -> str | None:
        self.asked.append((ip, port))
        return self.pages.get(ip)

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        event = asyncio.Event()
        self._sleepers.append((self.now + seconds, event))
        await event.wait()

    async def wait(self, seconds: float = 0.0) -> None:
        """Let time pass, and all go on that can."""
        self.now += seconds
        for due, event in self._sleepers:
            if due <= self.now:
                event.set()
        for _ in range(10):
            await asyncio.sleep(0)


@pytest.fixture
async def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.poller.forget(KEY)
    await made.wait()


async def test_a_page_wakes_the_key(bench: Bench) -> None:
    bench.pages["10.0.0.1"] = Progress(3, 10).dump()
    bench.poller.poll(KEY, [ToPoll(POD, 8080)])
    assert bench.poller.pages(KEY) == {}
    await bench.wait()
    assert bench.asked == [("10.0.0.1", 8080)]
    assert bench.woken == [KEY]
    assert bench.poller.pages(KEY) == {POD.uid: Progress(3, 10)}


async def test_the_same_page_wakes_it_once(bench: Bench) -> None:
    bench.pages["10.0.0.1"] = Progress(3, 10).dump()
    bench.poller.poll(KEY, [ToPoll(POD, 8080)])
    await bench.wait()
    for _ in range(3):
        bench.poller.poll(KEY, [ToPoll(POD, 8080)])
        await bench.wait(10)
    assert (len(bench.asked), len(bench.woken)) == (4, 1)


async def test_two_pods_wake_it_every_ten_seconds_at_most(bench: Bench) -> None:
    bench.poller.poll(KEY, [ToPoll(POD, 8080), ToPoll(OTHER, 8080)])
    for step in range(4):
        bench.pages = {ip: Progress(step).dump() for ip in ("10.0.0.1", "10.0.0.2")}
        await bench.wait(10 if step else 0)
        assert len(bench.woken) == step + 1
    # The news of the second pod are not lost.
    await bench.wait(10)
    await bench.wait(10)
    assert len(bench.asked) == 12
    assert len(bench.woken) == 5


@pytest.mark.parametrize("page", [None, "no page", "[]"])
async def test_a_pod_without_a_page_is_asked_again_since_its_next_stage_may_have_one(
    bench: Bench, page: str | None
) -> None:
    bench.pages["10.0.0.1"] = page
    bench.poller.poll(KEY, [ToPoll(POD, 8080)])
    await bench.wait()
    for _ in range(6):
        await bench.wait(bench.pauses[-1])
    assert bench.pauses == [20] * 7
    assert bench.woken == []
    bench.pages["10.0.0.1"] = Progress(1).dump()
    await bench.wait(20)
    assert bench.pauses[-1] == 10
    assert bench.woken == [KEY]


async def test_a_pod_that_does_not_answer_keeps_its_last_page(bench: Bench) -> None:
    bench.pages["10.0.0.1"] = Progress(3).dump()
    bench.poller.poll(KEY, [ToPoll(POD, 8080)])
    await bench.wait()
    bench.pages.clear()
    await bench.wait(10)
    assert bench.poller.pages(KEY) == {POD.uid: Progress(3)}


async def test_a_pod_that_is_not_polled_any_more_is_forgotten(bench: Bench) -> None:
    bench.pages["10.0.0.1"] = Progress(3).dump()
    bench.poller.poll(KEY, [ToPoll(POD, 8080)])
    await bench.wait()
    bench.poller.poll(KEY, [])
    await bench.wait(100)
    assert len(bench.asked) == 1
    assert bench.poller.pages(KEY) == {}


async def test_another_port_is_another_page(bench: Bench) -> None:
    bench.poller.poll(KEY, [ToPoll(POD, 8080)])
    await bench.wait()
    bench.poller.poll(KEY, [ToPoll(POD, 9090)])
    await bench.wait()
    assert bench.asked == [("10.0.0.1", 8080), ("10.0.0.1", 9090)]
