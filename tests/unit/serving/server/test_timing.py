"""Where the time of a request went: as it is noted, and as a live server tells it in both protocols."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serval_serving.engines.base import Signature
from serval_serving.models.handle import ServableHandle
from serval_serving.server.batch_settings import BatchSettings
from serval_serving.server.batching import BatchScheduler
from serval_serving.server.inference import Deadline, Inference
from serval_serving.server.metrics import Metrics
from serval_serving.server.request_timing import RequestTiming, WorkerPool, waited
from serval_serving.wire.timing import REPLY_HEADER, REQUEST_HEADER, read_times
from unit.serving.server.fake_engine import FakeModel, write_version
from unit.serving.server.grpc_calls import floats
from unit.serving.server.processes import Server
from unit.serving.wire.official import stubs

LIMIT = 20.0
RUN_SECONDS = 0.03
X = {"x": np.ones(1, np.float32)}
ASK = {REQUEST_HEADER: "1"}


class Clock:
    """Stands still until told otherwise; says when a thread other than the first looked at it."""

    def __init__(self) -> None:
        self.now = 100.0
        self.looked = threading.Event()
        self._first = threading.current_thread()

    def __call__(self) -> float:
        now = self.now
        if threading.current_thread() is not self._first:
            self.looked.set()
        return now


class TakingTwo(FakeModel):
    """Takes two seconds of a clock for each run."""

    def __init__(self, clock: Clock) -> None:
        super().__init__({"factor": 1})
        self._clock = clock

    def run(self, *arguments: Any) -> list[np.ndarray]:
        self._clock.now += 2
        return super().run(*arguments)


def test_nothing_is_said_of_an_engine_where_none_ran() -> None:
    timing = RequestTiming(queue=0.5)
    assert timing.header(2.0) == "total;dur=2000.000, queue;dur=500.000"
    timing.add(0.25, 1.0)
    assert timing.header(2.0) == "total;dur=2000.000, queue;dur=750.000, engine;dur=1000.000"


def test_work_knows_how_long_it_waited_for_a_thread() -> None:
    assert waited() == 0.0
    begun, over = threading.Event(), threading.Event()
    with WorkerPool(1, "test") as pool:
        pool.submit(lambda: begun.set() or over.wait(LIMIT))
        assert begun.wait(LIMIT)
        second = pool.submit(waited)
        submitted = time.monotonic()
        released = time.monotonic()
        over.set()
        assert second.result(LIMIT) >= released - submitted > 0
    assert waited() == 0.0


def test_waiting_for_the_engine_is_no_time_inside_it() -> None:
    clock = Clock()
    inference = Inference({}, Metrics(), clock=clock)
    model = TakingTwo(clock)
    handle = ServableHandle("m", 1, model)
    signature = model.signatures["serving_default"]
    timing = RequestTiming()

    def ask() -> None:
        inference.run(handle, signature, X, ["y"], Deadline(None, timing))

    with ThreadPoolExecutor(1) as pool, model.slots:
        asked = pool.submit(ask)
        assert clock.looked.wait(LIMIT)
        clock.now += 3
    asked.result(LIMIT)
    assert (timing.queue, timing.engine) == (3.0, 2.0)
    ask()
    assert (timing.queue, timing.engine) == (3.0, 4.0), "several runs add up"


def batched(clock: Clock, x: np.ndarray, **settings: int) -> RequestTiming:
    """Run rows in batches that take two seconds each, and say what was noted."""

    def run(
        _handle: ServableHandle,
        _signature: Signature,
        inputs: Mapping[str, np.ndarray],
        _aliases: Sequence[str],
        _seconds: float | None,
    ) -> list[np.ndarray]:
        clock.now += 2
        return [inputs["x"]]

    model = FakeModel({"factor": 1})
    found = BatchSettings(**{"max_execution_size": 10, "max_batch_size": 10, "threads": 1, **settings})
    scheduler = BatchScheduler(found, run, Metrics(), clock)
    timing = RequestTiming()
    signature = model.signatures["serving_default"]
    scheduler.run(ServableHandle("m", 1, model), signature, {"x": x}, ["y"], None, timing)
    scheduler.stop()
    return timing


def test_a_batch_that_runs_at_once() -> None:
    timing = batched(Clock(), floats(1, 2))
    assert (timing.queue, timing.engine) == (0.0, 2.0)


def test_a_request_in_pieces_has_the_times_of_the_last() -> None:
    timing = batched(Clock(), floats(1, 2, 3), max_execution_size=1, max_enqueued_batches=3)
    assert (timing.queue, timing.engine) == (4.0, 2.0)


@pytest.fixture(params=[(), ("--enable_batching",)], ids=["plain", "batching"])
def server(tmp_path: Path, start_fake: Callable[..., Server], request: pytest.FixtureRequest) -> Server:
    write_version(tmp_path / "m", 1, run_seconds=RUN_SECONDS)
    return start_fake(*request.param).wait_ready()


def check(told: str, client_seconds: float) -> None:
    times = read_times(told)
    assert list(times) == ["total", "queue", "engine"]
    assert RUN_SECONDS <= times["engine"] <= times["total"] <= client_seconds
    assert 0 <= times["queue"] <= times["total"] - times["engine"] + 1e-5


def test_grpc_tells_who_asks(server: Server) -> None:
    request = stubs().predict.PredictRequest()
    request.inputs["x"].dtype = 1
    request.inputs["x"].tensor_shape.dim.add(size=1)
    request.inputs["x"].float_val.append(1.0)
    with server.channel() as channel:
        predict = stubs().prediction_service.PredictionServiceStub(channel).Predict
        started = time.monotonic()
        _, call = predict.with_call(request, timeout=LIMIT, metadata=tuple(ASK.items()))
        seconds = time.monotonic() - started
        check(dict(call.trailing_metadata())[REPLY_HEADER], seconds)
        _, call = predict.with_call(request, timeout=LIMIT)
        assert REPLY_HEADER not in dict(call.trailing_metadata())


def test_http_tells_who_asks(server: Server) -> None:
    path, body = "/v1/models/m:predict", '{"instances": [1.0]}'
    started = time.monotonic()
    reply = server.post(path, body, **ASK)
    seconds = time.monotonic() - started
    assert reply.status == 200
    check(reply.headers[REPLY_HEADER], seconds)
    assert REPLY_HEADER not in server.post(path, body).headers
