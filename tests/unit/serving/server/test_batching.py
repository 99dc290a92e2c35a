"""The scheduler of batches, by itself and in a live server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from serval_serving.engines.base import Signature, TensorSpec
from serval_serving.fetch.model.models_folder import Batching as FetchedBatching
from serval_serving.models.handle import ServableHandle
from serval_serving.server.batch_settings import BatchSettings
from serval_serving.server.batching import Batching, BatchScheduler
from serval_serving.server.metrics import Metrics
from serval_serving.wire.dtypes import DataType
from serval_serving.wire.status import StatusError, invalid
from unit.serving.server.fake_engine import FakeModel, write_version
from unit.serving.server.grpc_calls import floats, predictor, refused
from unit.serving.server.processes import FAKE, REAL, Server, running, wait_until
from unit.serving.server.rest_calls import METRICS
from unit.serving.wire.official import stubs

LIMIT = 20.0
X = TensorSpec("x:0", DataType.DT_FLOAT, None)
SIGNATURE = Signature("serving_default", {"x": X}, {"y": X}, {})


class Engine:
    """Doubles its input; can be held, and notes what it was given."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.started = threading.Semaphore(0)
        self.batches: list[int] = []
        self.seconds: list[float | None] = []

    def run(
        self,
        _handle: ServableHandle,
        _signature: Signature,
        inputs: Mapping[str, np.ndarray],
        aliases: Sequence[str],
        seconds: float | None,
    ) -> list[np.ndarray]:
        self.batches.append(len(inputs["x"]))
        self.seconds.append(seconds)
        self.started.release()
        assert self.open.wait(LIMIT)
        if (inputs["x"] < 0).any():
            raise invalid("negative")
        return [inputs["x"] * 2 if alias == "y" else inputs["x"][:1] for alias in aliases]


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def handle() -> ServableHandle:
    return ServableHandle("m", 1, FakeModel({"factor": 1}))


class Caller:
    """Sends requests from threads of their own."""

    def __init__(self, scheduler: BatchScheduler, handle: ServableHandle) -> None:
        self.scheduler = scheduler
        self.handle = handle
        self.pool = ThreadPoolExecutor(40)

    def send(
        self, x: Any, aliases: tuple[str, ...] = ("y",), seconds: float | None = None
    ) -> Future[list[np.ndarray]]:
        until = None if seconds is None else time.monotonic() + seconds
        return self.pool.submit(self.scheduler.run, self.handle, SIGNATURE, {"x": x}, aliases, until)

    def ask(self, x: Any, aliases: tuple[str, ...] = ("y",)) -> list[np.ndarray]:
        return self.send(x, aliases).result(LIMIT)


Make = Callable[..., Caller]


@pytest.fixture
def make(engine: Engine, metrics: Metrics, handle: ServableHandle) -> Make:
    def made(**settings: Any) -> Caller:
        found = BatchSettings(**{"max_execution_size": settings.get("max_batch_size", 1000), **settings})
        return Caller(BatchScheduler(found, engine.run, metrics), handle)

    return made


def queued(metrics: Metrics, count: int) -> None:
    """Wait until so many requests wait."""
    line = f"serval_queue_length {count}\n"
    wait_until(f"{count} requests wait", lambda: line in metrics.page(), LIMIT)


def hold(caller: Caller, engine: Engine) -> Future[list[np.ndarray]]:
    """Keep the only thread busy."""
    engine.open.clear()
    held = caller.send(floats(0))
    assert engine.started.acquire(timeout=LIMIT)
    return held


def failed(future: Future[Any]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(StatusError) as caught:
        future.result(LIMIT)
    return caught.value.code, caught.value.message


def test_a_request_alone_does_not_wait(make: Make, engine: Engine) -> None:
    assert make().ask(floats(1, 2))[0].tolist() == [2, 4]
    assert engine.batches == [2]


def test_requests_gather_while_the_threads_are_busy(make: Make, engine: Engine, metrics: Metrics) -> None:
    caller = make()
    held = hold(caller, engine)
    sent = [caller.send(floats(*[index] * (index + 1))) for index in range(5)]
    queued(metrics, 5)
    engine.open.set()
    assert held.result(LIMIT)[0].tolist() == [0]
    assert [future.result(LIMIT)[0].tolist() for future in sent] == [
        [2 * index] * (index + 1) for index in range(5)
    ]
    assert engine.batches == [1, 15]
    page = metrics.page()
    assert 'serval_batch_size_sum{model_name="m"} 16' in page
    assert (
        ':tensorflow:serving:batching_session:queuing_latency_count{thread_pool_name="batch_threads"} 6'
        in page
    )


def test_only_what_is_alike_goes_together(make: Make, engine: Engine, metrics: Metrics) -> None:
    caller = make()
    hold(caller, engine)
    sent = [
        caller.send(np.ones((2, 3), np.float32)),
        caller.send(np.ones((1, 4), np.float32)),
        caller.send(np.ones((2, 3), np.float64)),
        caller.send(np.ones((4, 3), np.float32)),
    ]
    queued(metrics, 4)
    engine.open.set()
    for future in sent:
        future.result(LIMIT)
    assert sorted(engine.batches) == [1, 1, 2, 6]
    assert [future.result()[0].shape for future in sent] == [(2, 3), (1, 4), (2, 3), (4, 3)]


def test_a_full_batch_begins_another(make: Make, engine: Engine, metrics: Metrics) -> None:
    caller = make(max_batch_size=4)
    hold(caller, engine)
    sent = [caller.send(floats(1, 2, 3)) for _ in range(3)]
    queued(metrics, 3)
    engine.open.set()
    for future in sent:
        assert future.result(LIMIT)[0].tolist() == [2, 4, 6]
    assert engine.batches == [1, 3, 3, 3]


def test_too_large(make: Make) -> None:
    assert failed(make(max_batch_size=2).send(floats(1, 2, 3))) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "Task size 3 is larger than maximum input batch size 2",
    )


def test_the_queue_has_a_limit(make: Make, engine: Engine, metrics: Metrics) -> None:
    caller = make(max_batch_size=1, max_enqueued_batches=2)
    hold(caller, engine)
    sent = [caller.send(floats(index)) for index in range(2)]
    queued(metrics, 2)
    code, words = failed(caller.send(floats(9)))
    assert code is grpc.StatusCode.UNAVAILABLE
    assert words.startswith("The batch scheduling queue to which this task was submitted is full")
    engine.open.set()
    for future in sent:
        future.result(LIMIT)


def test_a_large_request_is_cut_where_that_is_wanted(make: Make, engine: Engine) -> None:
    caller = make(max_batch_size=10, max_execution_size=4, splits=True)
    x = np.arange(10, dtype=np.float32)
    assert caller.ask(x)[0].tolist() == (2 * x).tolist()
    assert sorted(engine.batches) == [2, 4, 4]


def test_batches_are_padded_to_allowed_sizes(make: Make, engine: Engine, metrics: Metrics) -> None:
    caller = make(max_batch_size=8, allowed_sizes=(4, 8))
    assert caller.ask(floats(1, 2, 3))[0].tolist() == [2, 4, 6]
    assert caller.ask(np.ones((5, 2), np.float32))[0].shape == (5, 2)
    assert engine.batches == [4, 8]
    assert 'serval_batch_size_sum{model_name="m"} 8' in metrics.page()


def test_an_empty_request(make: Make) -> None:
    assert make(max_batch_size=4, allowed_sizes=(4,)).ask(floats())[0].shape == (0,)


def test_more_is_waited_for_where_that_is_wanted(make: Make, engine: Engine) -> None:
    caller = make(max_batch_size=2, timeout_seconds=60.0)
    first = caller.send(floats(1))
    assert not first.done()
    second = caller.send(floats(2))
    assert [future.result(LIMIT)[0].tolist() for future in (first, second)] == [[2], [4]]
    assert engine.batches == [2]
    assert caller.send(floats(3), seconds=0.4).result(LIMIT)[0].tolist() == [6], "half its time, not all"


def test_one_bad_request_fails_alone(make: Make, engine: Engine, metrics: Metrics) -> None:
    caller = make()
    hold(caller, engine)
    sent = [caller.send(floats(value)) for value in (1, -1, 2)]
    queued(metrics, 3)
    engine.open.set()
    assert failed(sent[1]) == (grpc.StatusCode.INVALID_ARGUMENT, "negative")
    assert [sent[index].result(LIMIT)[0].tolist() for index in (0, 2)] == [[2], [4]]


def test_who_waits_no_more_is_left_out(make: Make, engine: Engine, metrics: Metrics) -> None:
    caller = make()
    hold(caller, engine)
    late = caller.send(floats(1), seconds=0.05)
    patient = caller.send(floats(2))
    queued(metrics, 2)
    assert failed(late) == (grpc.StatusCode.DEADLINE_EXCEEDED, "Timed out waiting for notification")
    engine.open.set()
    assert patient.result(LIMIT)[0].tolist() == [4]
    assert engine.batches == [1, 1]


def test_a_batch_runs_as_long_as_anybody_waits(make: Make, engine: Engine, metrics: Metrics) -> None:
    caller = make()
    hold(caller, engine)
    sent = [caller.send(floats(1), seconds=seconds) for seconds in (50, 100)]
    queued(metrics, 2)
    engine.open.set()
    for future in sent:
        future.result(LIMIT)
    assert engine.seconds[1] == pytest.approx(100, abs=15)


def test_a_version_is_held_while_its_batch_runs(make: Make, engine: Engine, handle: ServableHandle) -> None:
    caller = make()
    engine.open.clear()
    late = caller.send(floats(1), seconds=0.05)
    assert engine.started.acquire(timeout=LIMIT)
    failed(late)
    assert not handle.references.zero
    engine.open.set()
    wait_until("the version is free", lambda: handle.references.zero, LIMIT)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"x": np.float32(1)}, "Batching Run() input tensors must have at least one dimension"),
        (
            {"x": floats(1), "z": floats(1, 2)},
            "Batching Run() input tensors must have equal 0th-dimension size",
        ),
    ],
)
def test_what_cannot_be_batched(
    make: Make, handle: ServableHandle, inputs: dict[str, Any], words: str
) -> None:
    with pytest.raises(StatusError) as caught:
        make().scheduler.run(handle, SIGNATURE, inputs, ["y"], None)
    assert (caught.value.code, caught.value.message) == (grpc.StatusCode.INVALID_ARGUMENT, words)


def test_an_output_without_rows(make: Make) -> None:
    code, words = failed(make().send(floats(1, 2), ("first",)))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert words.startswith("Batched output tensor's 0th dimension does not equal")


def test_a_model_that_answers_one_row_alone_runs_apart(handle: ServableHandle, metrics: Metrics) -> None:
    def first_row(*arguments: Any) -> list[np.ndarray]:
        return [arguments[2]["x"][:1] * 2]

    settings = BatchSettings(max_batch_size=2, max_execution_size=2, timeout_seconds=LIMIT)
    scheduler = BatchScheduler(settings, first_row, metrics)
    until = time.monotonic() + LIMIT
    with ThreadPoolExecutor(2) as pool:
        sent = [
            pool.submit(scheduler.run, handle, SIGNATURE, {"x": floats(value)}, ["y"], until)
            for value in range(2)
        ]
        assert [future.result(LIMIT)[0].tolist() for future in sent] == [[0.0], [2.0]]


def test_a_crash_of_the_engine_reaches_the_callers_and_ends_no_thread(
    handle: ServableHandle, metrics: Metrics
) -> None:
    def crash(*_: Any) -> Any:
        raise ZeroDivisionError

    scheduler = BatchScheduler(BatchSettings(), crash, metrics)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            scheduler.run(handle, SIGNATURE, {"x": floats(1)}, ["y"], time.monotonic() + LIMIT)


def test_parameters_of_one_version(tmp_path: Path, engine: Engine, metrics: Metrics) -> None:
    own = ServableHandle("m", 1, FakeModel({"factor": 1}), tmp_path)
    other = ServableHandle("n", 1, FakeModel({"factor": 1}), tmp_path / "absent")
    (tmp_path / "batching_params.pbtxt").write_text("max_batch_size { value: 1 }")
    batching = Batching(BatchSettings(), engine.run, metrics, per_model=True)
    for handle in (own, other):
        batching.prepare(handle)
    inputs = {"x": floats(1, 2)}
    with pytest.raises(StatusError, match="Task size 2 is larger"):
        batching.scheduler(own).run(own, SIGNATURE, inputs, ["y"], None)
    assert batching.scheduler(other).run(other, SIGNATURE, inputs, ["y"], None)
    (tmp_path / "batching_params.pbtxt").write_text("max_batch_size { value: -1 }")
    with pytest.raises(StatusError, match="must be at least 1"):
        batching.prepare(own)


# In a server, with the parameters that the fetch container writes.
ONE_THREAD = "num_batch_threads { value: 1 }"


def test_in_a_live_server(models: Path, tmp_path: Path) -> None:
    file = tmp_path / "batching"
    file.write_text(FetchedBatching(8, 50000).text() + ONE_THREAD)
    flags = ("--model_name=zoo", f"--model_base_path={models / 'zoo'}", "--enable_batching")
    with running(Server(REAL, tmp_path / "log", *flags, f"--batching_parameters_file={file}")) as server:
        server.wait_ready()
        with server.channel() as channel, ThreadPoolExecutor(16) as pool:
            predict = predictor(stubs().prediction_service.PredictionServiceStub(channel))
            sent = [pool.submit(predict, {"x": floats(value)}) for value in range(16)]
            for value, future in enumerate(sent):
                assert list(future.result(LIMIT).outputs["y"].float_val) == [value / 2 + 2]
            assert refused(lambda: predict({"x": floats(*range(9))})) == (
                grpc.StatusCode.INVALID_ARGUMENT,
                "Task size 9 is larger than maximum input batch size 8",
            )
            images = np.array([b"ab", b"cde"], dtype=object)
            assert list(predict({"images": images}, "").outputs["classes"].int64_val) == [2, 3]
        page = server.get(METRICS).data.decode()
        count = int(page.partition('serval_batch_size_count{model_name="zoo"} ')[2].split()[0])
        assert count < 18, "some of 17 requests shared a batch"
        reply = server.post(
            "/v1/models/zoo:predict", b'{"signature_name": "half_plus_two", "instances": [1.0]}'
        )
        assert reply.status == 200


def test_a_full_queue_in_a_live_server(tmp_path: Path) -> None:
    write_version(tmp_path / "m", 1, run_seconds=0.5)
    file = tmp_path / "batching"
    file.write_text(FetchedBatching(1, None, 1).text() + ONE_THREAD)
    flags = ("--model_name=m", f"--model_base_path={tmp_path / 'm'}", "--enable_batching")
    with running(Server(FAKE, tmp_path / "log", *flags, f"--batching_parameters_file={file}")) as server:
        server.wait_ready()
        with server.channel() as channel, ThreadPoolExecutor(6) as pool:
            predict = predictor(stubs().prediction_service.PredictionServiceStub(channel))
            sent = [pool.submit(predict, {"x": floats(1)}, "", "m") for _ in range(6)]
            errors = [future.exception(LIMIT) for future in sent]
        codes = [error.code() for error in errors if isinstance(error, grpc.RpcError)]
        assert codes
        assert set(codes) == {grpc.StatusCode.UNAVAILABLE}
        assert errors.count(None) >= 2


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--batching_parameters_file=/b",), "is set without setting --enable_batching to true"),
        (("--enable_batching", "--batching_parameters_file=/absent/b"), "batching parameters cannot be read"),
    ],
)
def test_flags_that_end_the_start(tmp_path: Path, flags: tuple[str, ...], words: str) -> None:
    with running(Server(FAKE, tmp_path / "log", f"--model_base_path={tmp_path}", *flags)) as server:
        assert server.wait(60) == 255
        assert words in server.log.splitlines()[-1]


@pytest.mark.parametrize(
    ("error", "own"),
    [
        (StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, "OOM when allocating"), "OOM when allocating"),
        (StatusError(grpc.StatusCode.INTERNAL, "a kernel failed"), "a kernel failed"),
        (RuntimeError("boom"), "boom"),
    ],
)
def test_the_fault_of_one_request_fails_no_other(
    handle: ServableHandle, metrics: Metrics, error: Exception, own: str
) -> None:
    engine = Engine()

    def run(*arguments: Any) -> list[np.ndarray]:
        outputs = engine.run(*arguments)
        if (arguments[2]["x"] == 7).any():
            raise error
        return outputs

    caller = Caller(BatchScheduler(BatchSettings(), run, metrics), handle)
    held = hold(caller, engine)
    sent = [caller.send(floats(value)) for value in (1, 7, 3)]
    queued(metrics, 3)
    engine.open.set()
    assert held.result(LIMIT)[0].tolist() == [0]
    assert [sent[index].result(LIMIT)[0].tolist() for index in (0, 2)] == [[2], [6]]
    with pytest.raises(type(error), match=own):
        sent[1].result(LIMIT)


def test_a_batch_that_is_too_large_for_memory_is_run_in_its_parts(
    handle: ServableHandle, metrics: Metrics
) -> None:
    engine = Engine()

    def run(*arguments: Any) -> list[np.ndarray]:
        outputs = engine.run(*arguments)
        if len(arguments[2]["x"]) > 1:
            raise StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, "OOM when allocating")
        return outputs

    caller = Caller(BatchScheduler(BatchSettings(), run, metrics), handle)
    held = hold(caller, engine)
    sent = [caller.send(floats(value)) for value in (1, 2)]
    queued(metrics, 2)
    engine.open.set()
    held.result(LIMIT)
    assert [future.result(LIMIT)[0].tolist() for future in sent] == [[2], [4]]
