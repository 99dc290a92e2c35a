from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import grpc
import numpy as np
import pytest

from serval_serving.models.load_settings import LoadSettings
from serval_serving.models.manager import ModelManager
from serval_serving.server import tracing
from serval_serving.server.batch_settings import BatchSettings
from serval_serving.server.batching import Batching
from serval_serving.server.inference import Deadline, Inference, Run, Target
from serval_serving.server.metadata import model_metadata
from serval_serving.server.metrics import Metrics
from serval_serving.wire.status import StatusError, invalid
from unit.serving.server.fake_engine import FakeEngine, FakeModel, write_version

LIMIT = 20.0
X = {"x": np.ones(1, np.float32)}


@pytest.fixture
def managers(tmp_path: Path) -> dict[str, ModelManager]:
    made = {}
    for name in ("one", "two"):
        write_version(tmp_path / name, 2)
        made[name] = ModelManager(name, tmp_path / name, FakeEngine(), LoadSettings())
        made[name].poll()
    return made


def refused(inference: Inference, target: Target) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(StatusError) as caught, inference.acquire(target):
        pass
    return caught.value.code, caught.value.message


def test_several_models_must_be_named(managers: dict[str, ModelManager]) -> None:
    inference = Inference(managers, Metrics())
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    assert refused(inference, Target(None)) == (invalid, "Missing ModelSpec")
    assert refused(inference, Target("")) == (invalid, "ModelSpec has no name specified.")
    with inference.acquire(Target("two")) as handle:
        assert (handle.name, handle.version) == ("two", 2)


def test_the_only_model_need_not_be_named(managers: dict[str, ModelManager]) -> None:
    inference = Inference({"one": managers["one"]}, Metrics())
    for target in (Target(None), Target(""), Target("one"), Target("one", 2)):
        with inference.acquire(target) as handle:
            assert handle.name == "one"


def test_metadata_must_name_a_model_even_if_there_is_one(managers: dict[str, ModelManager]) -> None:
    inference = Inference({"one": managers["one"]}, Metrics())
    with pytest.raises(StatusError, match="Missing ModelSpec"):
        model_metadata(inference, Target(None), ["signature_def"])


def test_a_request_that_is_late_does_not_run(managers: dict[str, ModelManager]) -> None:
    inference = Inference(managers, Metrics(), clock=lambda: 100.0)
    with inference.acquire(Target("one")) as handle:
        signature = handle.model.signatures["serving_default"]
        with pytest.raises(StatusError) as caught:
            inference.run(handle, signature, X, ["y"], Deadline(99.0))
        assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert inference.run(handle, signature, X, ["y"], Deadline(101.0))[0].tolist() == [2.0]
        assert inference.run(handle, signature, X, ["y"], Deadline())[0].tolist() == [2.0]


def test_waiting_for_the_engine_ends_with_the_deadline(tmp_path: Path) -> None:
    write_version(tmp_path / "slow", 1, run_seconds=5)
    manager = ModelManager("slow", tmp_path / "slow", FakeEngine(), LoadSettings())
    manager.poll()
    inference = Inference({"slow": manager}, Metrics())
    entered = threading.Event()

    def occupy() -> None:
        with inference.acquire(Target("slow")) as handle:
            signature = handle.model.signatures["serving_default"]
            entered.set()
            with pytest.raises(StatusError):
                inference.run(handle, signature, X, ["y"], inference.deadline(1.0))

    thread = threading.Thread(target=occupy)
    thread.start()
    assert entered.wait(10)
    with inference.acquire(Target("slow")) as handle:
        signature = handle.model.signatures["serving_default"]
        started = inference.now()
        with pytest.raises(StatusError, match="Timed out"):
            inference.run(handle, signature, X, ["y"], inference.deadline(0.05))
        assert inference.now() - started < 1.0
    thread.join(10)


def test_a_busy_engine_delays_only_its_own_models(tmp_path: Path) -> None:
    shared = FakeEngine(slots=1)
    managers = {}
    for name, engine in (("busy", shared), ("neighbor", shared), ("other", FakeEngine(slots=1))):
        write_version(tmp_path / name, 2)
        managers[name] = ModelManager(name, tmp_path / name, engine, LoadSettings())
        managers[name].poll()
    inference = Inference(managers, Metrics())

    def run(name: str) -> list[float]:
        with inference.acquire(Target(name)) as handle:
            signature = handle.model.signatures["serving_default"]
            outputs = inference.run(handle, signature, X, ["y"], inference.deadline(0.05))
        return list(outputs[0])

    with inference.acquire(Target("busy")) as handle, handle.model.slots:
        assert run("other") == [2.0]
        with pytest.raises(StatusError, match="Timed out"):
            run("neighbor")
    assert run("neighbor") == [2.0]


def test_too_many_at_once_are_refused(managers: dict[str, ModelManager]) -> None:
    inference = Inference(managers, Metrics(), max_concurrent=2)
    with ExitStack() as stack:
        stack.enter_context(inference.admitted())
        stack.enter_context(inference.admitted())
        with pytest.raises(StatusError) as caught, inference.admitted():
            pass
    assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    with inference.admitted():
        pass


def test_a_wait_for_a_verdict_on_shapes_holds_no_slot(managers: dict[str, ModelManager]) -> None:
    inference = Inference({"one": managers["one"]}, Metrics())
    asked, decided = threading.Event(), threading.Event()

    def wait() -> None:
        asked.set()
        assert decided.wait(LIMIT)

    with inference.acquire(Target("one")) as handle, ThreadPoolExecutor(1) as pool:
        assert isinstance(handle.model, FakeModel)
        signature = handle.model.signatures["serving_default"]
        handle.model.on_check = wait
        waiting = pool.submit(inference.run, handle, signature, X, ["y"], Deadline())
        try:
            assert asked.wait(LIMIT)
            assert handle.model.slots.acquire(blocking=False), "the only slot is taken"
            handle.model.slots.release()
        finally:
            decided.set()
        assert waiting.result(LIMIT)[0].tolist() == [2.0]


def test_shapes_are_refused_before_a_batch(managers: dict[str, ModelManager]) -> None:
    def refuse() -> None:
        raise invalid("shape")

    inference = Inference({"one": managers["one"]}, Metrics())
    # It would fail in another way if it were asked to run something.
    inference.use_batches(Batching(BatchSettings(), lambda *_: [], Metrics()))
    with inference.acquire(Target("one")) as handle:
        assert isinstance(handle.model, FakeModel)
        handle.model.on_check = refuse
        signature = handle.model.signatures["serving_default"]
        with pytest.raises(StatusError, match="shape"):
            inference.run(handle, signature, X, ["y"], Deadline())


def test_a_sample_has_the_version_that_the_reply_names(managers: dict[str, ModelManager]) -> None:
    inference = Inference({"one": managers["one"]}, Metrics())
    samples: list[Run] = []
    inference.use_samples(samples.append)
    tracing.begin(tracing.Trace(Nobody()))
    try:
        with inference.acquire(Target("one")) as handle:
            signature = handle.model.signatures["serving_default"]
            inference.run(handle, signature, X, ["y"], Deadline())
            # The server behind a proxy may answer with a newer version than the one that was found.
            handle.model.on_check = lambda: tracing.note(3, "")  # type: ignore[attr-defined]
            inference.run(handle, signature, X, ["y"], Deadline())
    finally:
        tracing.end()
    assert [(sample.model, sample.version) for sample in samples] == [("one", 2), ("one", 3)]


class Nobody:
    def header(self, _name: str) -> str | None:
        return None
