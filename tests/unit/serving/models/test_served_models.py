from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from serval_serving.models.config import ModelConfig
from serval_serving.models.load_settings import LoadSettings
from serval_serving.models.manager import ModelManager
from serval_serving.models.served_models import EarlyLabels, ServedModels
from serval_serving.models.versions import All
from serval_serving.wire.status import StatusError
from unit.serving.server.fake_engine import FakeEngine, write_version
from unit.serving.server.processes import wait_until

LIMIT = 20.0
Make = Callable[..., ServedModels]


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def make(engine: FakeEngine) -> Iterator[Make]:
    with ExitStack() as stack:

        def made(early: EarlyLabels = EarlyLabels.NONE) -> ServedModels:
            settings = LoadSettings(poll_seconds=0.02)

            def manager(config: ModelConfig) -> ModelManager:
                return ModelManager(config.name, config.base_path, engine, settings, config.policy)

            served = ServedModels(manager, early)
            stack.callback(served.stop)
            return served

        yield made


def never() -> bool:
    return False


def config(tmp_path: Path, name: str, **labels: int) -> ModelConfig:
    return ModelConfig(name, tmp_path / name, policy=All(), labels=labels)


def refused(change: Callable[[], None]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(StatusError) as caught:
        change()
    return caught.value.code, caught.value.message


def test_all_models_are_waited_for(tmp_path: Path, make: Make) -> None:
    write_version(tmp_path / "a", 1)
    served = make()
    configs = [config(tmp_path, "a"), config(tmp_path, "b")]
    starting = threading.Thread(target=served.start, args=(configs, never), daemon=True)
    starting.start()
    wait_until("model a serves", lambda: "a" in served and served["a"].available() == [1], LIMIT)
    starting.join(0.1)
    assert starting.is_alive()
    write_version(tmp_path / "b", 2)
    starting.join(LIMIT)
    assert not starting.is_alive()
    assert {name: manager.available() for name, manager in served.items()} == {"a": [1], "b": [2]}
    assert len(served) == 2


def test_waiting_ends_when_told(tmp_path: Path, make: Make) -> None:
    make().start([config(tmp_path, "a")], lambda: True)


def test_a_start_that_fails_names_every_model(tmp_path: Path, make: Make) -> None:
    write_version(tmp_path / "a", 1, fail="no graph")
    write_version(tmp_path / "b", 1)
    served = make()
    code, words = refused(lambda: served.start([config(tmp_path, "a"), config(tmp_path, "b")], never))
    assert code is grpc.StatusCode.UNKNOWN
    assert words == (
        "1 servable(s) did not become available: {{name: a version: 1} due to error: Not found: no graph}"
    )


def test_a_reload_adds_changes_and_removes(tmp_path: Path, make: Make) -> None:
    for name in "abc":
        write_version(tmp_path / name, 1)
    write_version(tmp_path / "elsewhere", 5)
    served = make()
    served.start([config(tmp_path, "a"), config(tmp_path, "b")], never)
    before = served["b"]
    served.reload([ModelConfig("b", tmp_path / "elsewhere"), config(tmp_path, "c")], never)
    assert set(served) == {"b", "c"}
    assert served["c"].available() == [1]
    assert served["b"] is before
    wait_until("b serves what lies elsewhere", lambda: before.available() == [5], LIMIT)
    wait_until("a is unloaded", lambda: not any(thread.name == "model-a" for thread in threading.enumerate()))


def test_a_reload_that_is_refused_changes_nothing(tmp_path: Path, make: Make) -> None:
    write_version(tmp_path / "a", 1)
    served = make()
    served.start([config(tmp_path, "a")], never)
    other = ModelConfig("a", tmp_path / "a", "onnx")
    assert refused(lambda: served.reload([other], never))[0] is grpc.StatusCode.INVALID_ARGUMENT
    assert refused(lambda: served.reload([config(tmp_path, "a", stable=2)], never)) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "Request to assign label to version 2 of model a, which is not currently available for inference",
    )
    assert served["a"].available() == [1]
    assert served["a"].labels == {}


def test_a_new_model_that_fails_fails_the_reload_and_harms_no_other(tmp_path: Path, make: Make) -> None:
    write_version(tmp_path / "a", 1)
    write_version(tmp_path / "b", 2, fail="no graph")
    served = make()
    served.start([config(tmp_path, "a")], never)
    code, words = refused(lambda: served.reload([config(tmp_path, "a"), config(tmp_path, "b")], never))
    assert code is grpc.StatusCode.UNKNOWN
    assert words == (
        "1 model(s) did not become available: {{name: b version: 2} due to error: Not found: no graph}"
    )
    assert served["a"].available() == [1]


def test_labels(tmp_path: Path, make: Make) -> None:
    for version in (1, 2):
        write_version(tmp_path / "a", version)
    served = make()
    served.start([config(tmp_path, "a")], never)
    wait_until("both versions serve", lambda: served["a"].available() == [1, 2], LIMIT)
    served.reload([config(tmp_path, "a", stable=1, canary=2)], never)
    assert served["a"].version_of("canary") == 2
    served.reload([config(tmp_path, "a", stable=2)], never)
    assert served["a"].labels == {"stable": 2}


@pytest.mark.parametrize(
    ("early", "at_start", "moved"),
    [(EarlyLabels.NONE, False, False), (EarlyLabels.NEW, True, False), (EarlyLabels.ALL, True, True)],
)
def test_labels_of_versions_that_do_not_serve(
    tmp_path: Path, make: Make, early: EarlyLabels, at_start: bool, moved: bool
) -> None:
    write_version(tmp_path / "a", 1)
    served = make(early)
    labelled = [config(tmp_path, "a", stable=1)]
    if not at_start:
        assert refused(lambda: served.start(labelled, never))[0] is grpc.StatusCode.FAILED_PRECONDITION
        return
    served.start(labelled, never)
    served.reload([config(tmp_path, "a", stable=1, next=7)], never)
    assert served["a"].version_of("next") == 7

    def move() -> None:
        served.reload([config(tmp_path, "a", stable=8)], never)

    if moved:
        move()
        assert served["a"].version_of("stable") == 8
    else:
        assert refused(move)[0] is grpc.StatusCode.FAILED_PRECONDITION


def test_who_looks_at_all_models_sees_those_of_one_configuration(tmp_path: Path, make: Make) -> None:
    served = make()
    for name in ("a", "b"):
        write_version(tmp_path / name, 1)
    served.start([config(tmp_path, "a"), config(tmp_path, "b")], never)
    seen = []
    for name, manager in served.items():
        if not seen:
            served.reload([config(tmp_path, "a")], never)
        seen.append((name, manager.name))
    assert seen == [("a", "a"), ("b", "b")]
