from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from serval_operator.health_server import ProbeServer


class Bench:
    def __init__(self) -> None:
        self.live: str | None = None
        self.ready: str | None = None
        self.server = ProbeServer([lambda: self.live], [lambda: self.ready], lambda: b"a_metric 1\n")
        self.port = 0

    async def ask(self, path: str) -> tuple[int, str]:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.port}{path}") as response,
        ):
            return response.status, await response.text()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    bench.port = await bench.server.start("127.0.0.1", 0)
    yield bench
    await bench.server.stop()


async def test_all_is_well(bench: Bench) -> None:
    assert await bench.ask("/healthz") == (200, "ok")
    assert await bench.ask("/readyz") == (200, "ok")
    assert await bench.ask("/metrics") == (200, "a_metric 1\n")
    assert (await bench.ask("/other"))[0] == 404


async def test_not_ready_is_still_alive(bench: Bench) -> None:
    bench.ready = "not yet"
    assert await bench.ask("/healthz") == (200, "ok")
    assert await bench.ask("/readyz") == (503, "not yet")


async def test_what_is_not_alive_is_not_ready(bench: Bench) -> None:
    bench.live, bench.ready = "hangs", "not yet"
    assert await bench.ask("/healthz") == (503, "hangs")
    assert await bench.ask("/readyz") == (503, "hangs; not yet")


async def test_it_stops_at_once_with_a_connection_open(bench: Bench) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{bench.port}/healthz") as response:
            assert response.status == 200
        await bench.server.stop()
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.get(f"http://127.0.0.1:{bench.port}/healthz")
