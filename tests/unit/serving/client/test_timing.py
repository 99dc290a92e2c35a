"""Where the time went, as all three clients tell it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from serval_serving.client import AsyncGrpcClient, GrpcClient, HttpClient, Timing
from serval_serving.client.timing import timing_of
from serval_serving.wire.timing import REQUEST_HEADER
from unit.serving.client.servers import Model, RestSite, rest_server

TIMES = "total;dur=600, queue;dur=100, engine;dur=300"
SPLIT = Timing(total=1.0, network=0.4, queue=0.1, engine=0.3, server=0.2)


def parts(timing: Timing) -> tuple[float | None, ...]:
    return (timing.total, timing.network, timing.queue, timing.engine, timing.server)


def ticking() -> Callable[[], float]:
    """A clock on which a second passes between two looks."""
    seconds = iter(range(1000))
    return lambda: float(next(seconds))


def test_parts_add_up_to_the_total() -> None:
    assert parts(timing_of(1.0, TIMES)) == pytest.approx(parts(SPLIT))


@pytest.mark.parametrize("told", ["", "total;dur=1", "db;dur=3"])
def test_a_server_that_does_not_tell(told: str) -> None:
    assert timing_of(1.0, told) == Timing(1.0)


def test_no_part_is_negative() -> None:
    assert timing_of(0.5, "total;dur=600, queue;dur=300.1, engine;dur=300") == Timing(
        0.5, 0.0, pytest.approx(0.3001), 0.3, 0.0
    )


def test_grpc(address: str, model: Model) -> None:
    timings: list[Timing] = []
    with GrpcClient(address, key="secret", clock=ticking()) as served:
        served.predict({"images": b"x"}, on_timing=timings.append)
        model.times = TIMES
        served.predict({"images": b"x"}, on_timing=timings.append)
        served.predict({"images": b"x"})
    assert timings[0] == Timing(1.0)
    assert parts(timings[1]) == pytest.approx(parts(SPLIT))
    assert len(timings) == 2
    assert [REQUEST_HEADER in headers for headers in model.headers] == [True, True, False]
    assert all(headers["authorization"] == "Bearer secret" for headers in model.headers)


async def test_asyncio(address: str, model: Model) -> None:
    timings: list[Timing] = []
    async with AsyncGrpcClient(address, clock=ticking()) as served:
        await served.predict({"images": b"x"}, on_timing=timings.append)
        model.times = TIMES
        await served.predict({"images": b"x"}, on_timing=timings.append)
        await served.predict({"images": b"x"})
    assert timings[0] == Timing(1.0)
    assert parts(timings[1]) == pytest.approx(parts(SPLIT))
    assert [REQUEST_HEADER in headers for headers in model.headers] == [True, True, False]


def test_http() -> None:
    site = RestSite()
    site.answer("/score", (503, b"draining"), (200, [[0.5]]))
    site.answer("/v1/models/m:predict", (200, {"predictions": [1]}))
    timings: list[Timing] = []
    slept: list[float] = []
    now = 0.0

    def clock() -> float:
        return now

    def sleep(seconds: float) -> None:
        nonlocal now
        slept.append(seconds)
        now += seconds

    with rest_server(site) as url, HttpClient(url, model="m", clock=clock, sleep=sleep) as served:
        served.score(b"x", on_timing=timings.append)
        site.times = TIMES
        served.predict([1], on_timing=timings.append)
        served.predict([1])
    assert timings[0] == Timing(sum(slept)), "tries and pauses count"
    assert slept
    assert timings[1].engine == pytest.approx(0.3)
    assert [REQUEST_HEADER in {key.lower() for key in headers} for *_, headers in site.requests] == [
        True,
        True,
        True,
        False,
    ]
