from __future__ import annotations

import re
import shutil
from pathlib import Path

import grpc
import pytest

from serval_serving.models.handle import ServableHandle
from serval_serving.models.load_settings import LoadSettings
from serval_serving.models.manager import ModelManager
from serval_serving.models.states import State
from serval_serving.models.versions import All, Latest, Specific, scan
from serval_serving.wire.status import StatusError
from unit.serving.server.fake_engine import FakeEngine, write_version
from unit.serving.server.processes import wait_until


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path / "m"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def manager(base: Path, engine: FakeEngine, clock: Clock) -> ModelManager:
    settings = LoadSettings(max_retries=2, retry_seconds=60)
    return ModelManager("m", base, engine, settings, clock=clock)


def states(manager: ModelManager) -> dict[int, str]:
    return {status.version: status.state.name for status in manager.statuses()}


def test_versions_are_folders_with_numbers_for_names(tmp_path: Path) -> None:
    for name in ("1", "0002", "00000123", "0", "tmp", "-3", "1.5", "³", str(2**63)):
        (tmp_path / name).mkdir()
    (tmp_path / "7").write_text("a file")
    found = scan(tmp_path)
    assert {version: path.name for version, path in found.items()} == {
        0: "0",
        1: "1",
        2: "0002",
        123: "00000123",
    }


def test_a_base_path_that_is_not_there_has_no_versions(tmp_path: Path) -> None:
    assert scan(tmp_path / "absent") == {}


@pytest.mark.parametrize(
    ("count", "found", "selected"), [(1, [3, 1, 2], [3]), (2, [3, 1, 2], [2, 3]), (1, [], []), (5, [1], [1])]
)
def test_the_latest_policy(count: int, found: list[int], selected: list[int]) -> None:
    assert Latest(count).select(found) == selected


def test_the_highest_version_is_loaded(base: Path, manager: ModelManager, engine: FakeEngine) -> None:
    for version in (1, 3, 2):
        write_version(base, version)
    manager.poll()
    manager.poll()
    assert manager.available() == [3]
    assert [path.name for path in engine.loads] == ["3"]
    assert states(manager) == {3: "AVAILABLE"}


def test_a_new_version_serves_before_the_old_one_goes(
    base: Path, manager: ModelManager, engine: FakeEngine
) -> None:
    write_version(base, 1)
    manager.poll()
    with manager.acquire() as held:
        write_version(base, 2)
        manager.poll()
        assert held.version == 1
        assert states(manager) == {2: "AVAILABLE", 1: "UNLOADING"}
        assert not engine.models[1].closed
        with manager.acquire() as new:
            assert new.version == 2
        with pytest.raises(StatusError, match=re.escape("Specific(m, 1)")), manager.acquire(1):
            pass
    manager.poll()
    assert engine.models[1].closed
    assert states(manager) == {2: "AVAILABLE", 1: "END"}


def test_a_version_that_cannot_be_loaded_takes_nothing_out_of_service(
    base: Path, manager: ModelManager, engine: FakeEngine
) -> None:
    write_version(base, 1)
    manager.poll()
    write_version(base, 2, fail="broken")
    for _ in range(3):
        manager.poll()
    assert manager.available() == [1]
    assert len(engine.loads) == 2
    status = manager.status(2)
    assert status is not None
    assert (status.state, status.code, status.message) == (State.END, grpc.StatusCode.NOT_FOUND, "broken")
    write_version(base, 3)
    manager.poll()
    assert manager.available() == [3]


def test_a_broken_version_that_was_repaired_is_loaded(base: Path, manager: ModelManager) -> None:
    write_version(base, 1)
    write_version(base, 2, fail="broken")
    manager.poll()
    shutil.rmtree(base / "2")
    manager.poll()
    assert manager.available() == [1]
    write_version(base, 2)
    manager.poll()
    assert manager.available() == [2]


def test_a_base_path_that_went_empty_takes_nothing_out_of_service(base: Path, manager: ModelManager) -> None:
    write_version(base, 1)
    manager.poll()
    shutil.rmtree(base)
    manager.poll()
    assert manager.available() == [1]


def test_going_back_to_a_lower_version(base: Path, manager: ModelManager) -> None:
    write_version(base, 1)
    write_version(base, 2)
    manager.poll()
    shutil.rmtree(base / "2")
    manager.poll()
    assert manager.available() == [1]


def test_failures_that_may_pass_are_tried_again_after_a_while(
    base: Path, manager: ModelManager, engine: FakeEngine, clock: Clock
) -> None:
    path = write_version(base, 1, fail="no memory", permanent=False)
    manager.poll()
    manager.poll()
    assert len(engine.loads) == 1
    assert states(manager) == {1: "LOADING"}
    clock.now = 60
    manager.poll()
    assert len(engine.loads) == 2
    shutil.rmtree(path)
    write_version(base, 1)
    clock.now = 119
    manager.poll()
    assert manager.available() == []
    clock.now = 120
    manager.poll()
    assert manager.available() == [1]


def test_tries_end(base: Path, manager: ModelManager, engine: FakeEngine, clock: Clock) -> None:
    write_version(base, 1, fail="no memory", permanent=False)
    for clock.now in range(0, 1000, 60):
        manager.poll()
    assert len(engine.loads) == 3
    assert states(manager) == {1: "END"}


def test_an_engine_that_crashes_is_a_failure_like_others(base: Path, manager: ModelManager) -> None:
    write_version(base, 1, crash="bang")
    manager.poll()
    status = manager.status(1)
    assert status is not None
    assert (status.code, status.message) == (grpc.StatusCode.INTERNAL, "RuntimeError: bang")


def test_nothing_serves_before_anything_is_loaded(manager: ModelManager) -> None:
    with pytest.raises(StatusError) as caught, manager.acquire():
        pass
    assert (caught.value.code, caught.value.message) == (
        grpc.StatusCode.NOT_FOUND,
        "Servable not found for request: Latest(m)",
    )


def test_other_versions_are_wanted(base: Path, manager: ModelManager, engine: FakeEngine) -> None:
    for version in (1, 2, 3):
        write_version(base, version)
    manager.configure(base, All())
    manager.poll()
    assert manager.available() == [1, 2, 3]
    manager.configure(base, Specific(frozenset({2, 9})))
    manager.poll()
    assert manager.available() == [2]
    assert engine.models[1].closed
    assert states(manager) == {3: "END", 2: "AVAILABLE", 1: "END"}
    manager.configure(base, Specific(frozenset({9})))
    manager.poll()
    assert manager.available() == [2], "nothing else serves, so it stays"


def test_another_base_path(base: Path, manager: ModelManager, tmp_path: Path) -> None:
    write_version(base, 1)
    manager.poll()
    write_version(tmp_path / "elsewhere", 7)
    manager.configure(tmp_path / "elsewhere", Latest())
    manager.poll()
    assert manager.available() == [7]


def test_a_removed_model_frees_everything(base: Path, manager: ModelManager, engine: FakeEngine) -> None:
    write_version(base, 1)
    manager.poll()
    with manager.acquire():
        manager.retire()
        assert manager.available() == []
        manager.poll()
        assert not engine.models[1].closed
    manager.poll()
    assert engine.models[1].closed
    assert states(manager) == {1: "END"}


def test_labels(base: Path, manager: ModelManager) -> None:
    write_version(base, 1)
    manager.poll()
    manager.set_labels({"stable": 1})
    assert manager.version_of("stable") == 1
    with pytest.raises(StatusError) as caught:
        manager.version_of("canary")
    assert (caught.value.code, caught.value.message) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "Unrecognized servable version label: canary",
    )


@pytest.mark.parametrize(
    ("code", "state"),
    [(grpc.StatusCode.INVALID_ARGUMENT, "END"), (grpc.StatusCode.RESOURCE_EXHAUSTED, "LOADING")],
)
def test_a_warm_up_that_fails_fails_the_load(
    base: Path, engine: FakeEngine, code: grpc.StatusCode, state: str
) -> None:
    def warm_up(handle: ServableHandle) -> None:
        assert (handle.name, handle.version, handle.path.name) == ("m", 1, "1")
        raise StatusError(code, "too cold")

    write_version(base, 1)
    manager = ModelManager("m", base, engine, LoadSettings(), prepare=warm_up)
    manager.poll()
    assert manager.available() == []
    assert engine.models[1].closed
    status = manager.status(1)
    assert status is not None
    assert (status.state.name, status.code, status.message) == (state, code, "too cold")


def test_with_no_period_it_looks_once_until_told(base: Path, engine: FakeEngine) -> None:
    write_version(base, 1)
    manager = ModelManager("m", base, engine, LoadSettings(poll_seconds=0))
    manager.start()
    wait_until("version 1 serves", lambda: manager.available() == [1], 20)
    write_version(base, 2)
    manager.configure(base, All())
    wait_until("version 2 serves", lambda: manager.available() == [1, 2], 20)
    assert [path.name for path in engine.loads] == ["1", "2"]
    manager.stop()
    manager._thread.join(20)
    assert not manager._thread.is_alive()
