"""Reading a pod's metrics, from real servers on loopback."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from serval_contract.metrics import METRICS_PATH
from serval_contract.progress import MAX_PAGE_BYTES, Progress, parse_progress
from serval_operator.runtime import pod_metrics as prober
from serval_operator.runtime.pod_metrics import MOST_BYTES, MOST_STATUS_BYTES, HttpProber

pytestmark = pytest.mark.unit

HOST = "127.0.0.1"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def served(handler: Handler) -> AsyncIterator[int]:
    """A server that answers everything by one function; its port."""
    runner = web.ServerRunner(web.Server(handler), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, HOST, 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def test_reads_the_page() -> None:
    seen: list[web.Request] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        seen.append(request)  # type: ignore[arg-type]
        return web.Response(text="a 1\n")

    async with served(answer) as port:
        assert await HttpProber().metrics(HOST, port) == "a 1\n"
    assert [(one.method, one.path) for one in seen] == [("GET", METRICS_PATH)]
    assert "Authorization" not in seen[0].headers


async def test_reads_the_progress_page() -> None:
    paths: list[str] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        paths.append(request.path)
        return web.Response(text=Progress(3, message="x" * 9).dump())

    async with served(answer) as port:
        page = await HttpProber().progress(HOST, port)
    assert paths == ["/progress"]
    assert page is not None
    assert parse_progress(page) == Progress(3, message="x" * 9)


async def test_reads_the_status_of_a_model() -> None:
    paths: list[str] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        paths.append(request.path)
        return web.Response(text="{}" + " " * 100_000)

    async with served(answer) as port:
        page = await HttpProber().status(HOST, port, "eyes")
    assert paths == ["/v1/models/eyes"]
    assert page is not None
    assert len(page) == MOST_STATUS_BYTES


async def test_a_progress_page_that_is_too_long_is_none() -> None:
    async def answer(_request: web.BaseRequest) -> web.Response:
        return web.Response(text='{"step": 3}' + " " * 100_000)

    async with served(answer) as port:
        page = await HttpProber().progress(HOST, port)
    assert page is not None
    assert len(page) == MAX_PAGE_BYTES + 1
    assert parse_progress(page) is None


@pytest.mark.parametrize("status", [204, 302, 401, 404, 500])
async def test_no_other_answer_counts(status: int) -> None:
    async def answer(_: web.BaseRequest) -> web.Response:
        return web.Response(status=status, headers={"Location": "/elsewhere"})

    async with served(answer) as port:
        assert await HttpProber().metrics(HOST, port) is None


async def test_reads_no_more_than_it_should() -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65536)
        except ConnectionResetError:
            return response

    async with served(answer) as port:
        page = await HttpProber().metrics(HOST, port)
    assert page == "x" * MOST_BYTES


async def test_unpacks_nothing() -> None:
    async def answer(_: web.BaseRequest) -> web.Response:
        return web.Response(body=b"packed", headers={"Content-Encoding": "gzip"})

    async with served(answer) as port:
        assert await HttpProber().metrics(HOST, port) == "packed"


async def test_waits_no_longer_than_it_should(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prober, "SECONDS", 0.2)

    async def answer(_: web.BaseRequest) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with served(answer) as port:
        started = time.monotonic()
        assert await HttpProber().metrics(HOST, port) is None
        assert time.monotonic() - started < 5


async def test_what_speaks_no_http(unused_tcp_port: int) -> None:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x00\x01 what?\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(talk, HOST, unused_tcp_port)
    async with server:
        assert await HttpProber().metrics(HOST, unused_tcp_port) is None


@pytest.mark.parametrize("ip", ["", "not an address", "127.0.0.1/x", "[::"])
async def test_what_is_no_address(ip: str) -> None:
    assert await HttpProber().metrics(ip, 8501) is None


async def test_nobody_listens(unused_tcp_port: int) -> None:
    assert await HttpProber().metrics(HOST, unused_tcp_port) is None
