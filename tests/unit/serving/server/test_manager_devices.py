"""Versions of a model whose device holds one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from serval_serving.devices.base import DeviceSettings
from serval_serving.engines.accelerated import AcceleratedEngine, AcceleratedOptions
from serval_serving.engines.base import ModelLoadError
from serval_serving.models import manager as manager_module
from serval_serving.models.handle import ServableHandle
from serval_serving.models.load_settings import LoadSettings
from serval_serving.models.manager import NO_MODEL, ModelManager
from serval_serving.models.states import State
from serval_serving.models.versions import All, Latest
from serval_serving.server import lifecycle
from serval_serving.server.device_watch import DeviceWatch
from serval_serving.server.lifecycle import ModelServer
from serval_serving.server.ports import Ports
from serval_serving.server.settings import Settings
from serval_serving.wire.status import StatusError
from unit.serving.engines.artifacts import photo, write_artifact
from unit.serving.server.fake_engine import FakeDevice, FakeEngine, FakeModel, write_version
from unit.serving.server.processes import wait_until


class Engine(FakeEngine):
    """Its models share a device.

    While it is programmed, what `refused` has for the version runs, else `during`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self.during: Callable[[], None] = lambda: None
        self.refused: dict[str, Callable[[], None]] = {}

    def load(self, path: Path) -> FakeModel:
        model = super().load(path)
        self.said.append(f"load {path.name}")
        device = FakeDevice(path.name, self.said)
        device.during = lambda: self._programmed(path.name)
        model.exclusive = device
        close = model.close

        def closed() -> None:
            self.said.append(f"close {path.name}")
            close()

        model.close = closed  # type: ignore[method-assign]
        return model

    def _programmed(self, version: str) -> None:
        self.refused.get(version, self.during)()

    def device(self, version: int) -> FakeDevice:
        device = self.models[version].exclusive
        assert isinstance(device, FakeDevice)
        return device


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path / "m"


@pytest.fixture
def manager(base: Path, engine: Engine) -> ModelManager:
    return ModelManager("m", base, engine, LoadSettings(max_retries=1, retry_seconds=3600))


def refusal(manager: ModelManager, version: int | None = None) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(StatusError) as caught, manager.acquire(version):
        pass
    return caught.value.code, caught.value.message


def test_the_old_version_ends_before_the_device_is_programmed(
    base: Path, manager: ModelManager, engine: Engine
) -> None:
    write_version(base, 1)
    manager.poll()
    write_version(base, 2)
    manager.poll()
    assert engine.said == ["load 1", "program 1", "load 2", "close 1", "program 2"]
    assert {one.version: one.state.name for one in manager.statuses()} == {2: "AVAILABLE", 1: "END"}
    with manager.acquire() as held:
        assert (held.version, held.engine) == (2, "fake (emulated)")


def test_a_request_of_the_old_version_ends_first(base: Path, manager: ModelManager, engine: Engine) -> None:
    write_version(base, 1)
    manager.poll()
    with manager.acquire():
        write_version(base, 2)
        thread = threading.Thread(target=manager.poll)
        thread.start()
        # The old version takes no more requests, and its device is left alone.
        wait_until("the device is to be programmed", lambda: manager.opening and not manager.available())
        assert refusal(manager) == (grpc.StatusCode.UNAVAILABLE, "programming the device: 0 %")
        assert "program 2" not in engine.said
        assert not engine.models[1].closed
    thread.join(60)
    assert engine.said[-2:] == ["close 1", "program 2"]


def test_a_request_that_never_ends_holds_the_device_for_a_while_only(
    base: Path, manager: ModelManager, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manager_module, "_EMPTY_SECONDS", 0.0)
    write_version(base, 1)
    manager.poll()
    with manager.acquire():
        write_version(base, 2)
        manager.poll()
        assert engine.said == ["load 1", "program 1", "load 2", "release 1", "program 2"]
    manager.poll()
    assert engine.models[1].closed


def test_a_request_that_never_ends_does_not_keep_an_accelerated_model_from_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manager_module, "_EMPTY_SECONDS", 0.0)
    settings = DeviceSettings(options={"programming_seconds": 0})
    accelerated = AcceleratedEngine(AcceleratedOptions("emulator", settings))
    manager = ModelManager("m", tmp_path, accelerated, LoadSettings())
    write_artifact(tmp_path, 1)
    manager.poll()
    with manager.acquire() as held:
        write_artifact(tmp_path, 2)
        manager.poll()
        assert manager.available() == [2], manager.status(2)
        given = {"images": np.array([photo()], object)}
        with pytest.raises(StatusError, match="the device is programmed with another model"):
            held.model.run("serving_default", given, ["features"])


def test_what_cannot_be_loaded_takes_nothing_off_the_device(
    base: Path, manager: ModelManager, engine: Engine
) -> None:
    write_version(base, 1)
    manager.poll()
    write_version(base, 2, fail="ArtifactCorrupted: device.onnx")
    manager.poll()
    assert manager.available() == [1]
    assert engine.said == ["load 1", "program 1"]


def test_while_the_device_is_programmed_callers_learn_how_far_that_is(
    base: Path, manager: ModelManager, engine: Engine
) -> None:
    seen: dict[str, Any] = {}

    def look() -> None:
        seen.update(
            newest=refusal(manager),
            named=refusal(manager, 1),
            other=refusal(manager, 7),
            status=manager.status(1),
            available=manager.available(),
            opening=manager.opening,
            obstacle=manager.obstacle,
            devices=manager.devices(),
            programmed={version: one.programmed for version, one in manager.device_reports().items()},
        )

    engine.during = look
    write_version(base, 1)
    manager.poll()
    words = (grpc.StatusCode.UNAVAILABLE, "programming the device: 40 %")
    assert seen["newest"] == seen["named"] == words
    assert seen["other"] == (grpc.StatusCode.NOT_FOUND, "Servable not found for request: Specific(m, 7)")
    status = seen["status"]
    assert (status.state, status.code, status.message) == (State.LOADING, *words)
    assert (seen["available"], seen["opening"], seen["obstacle"]) == ([], True, words[1])
    assert (seen["devices"], seen["programmed"]) == ({}, {1: 0.4})
    assert (manager.opening, manager.obstacle, manager.devices()) == (False, "", {1: "CPU"})
    assert manager.device_reports()[1].programmed == 1


def test_a_device_that_cannot_be_programmed_is_a_failed_load(
    base: Path, manager: ModelManager, engine: Engine
) -> None:
    def fail() -> None:
        raise ModelLoadError(grpc.StatusCode.FAILED_PRECONDITION, "DeviceUnusable: x", permanent=True)

    engine.during = fail
    write_version(base, 1)
    manager.poll()
    assert manager.failures() == ["{name: m version: 1} due to error: Failed precondition: DeviceUnusable: x"]
    assert engine.said == ["load 1", "program 1", "close 1"]
    assert (manager.opening, manager.available()) == (False, [])
    assert refusal(manager)[0] is grpc.StatusCode.NOT_FOUND


def refuse(*, permanent: bool) -> Callable[[], None]:
    def fail() -> None:
        raise ModelLoadError(grpc.StatusCode.UNAVAILABLE, "DeviceUnusable: x", permanent=permanent)

    return fail


def test_a_version_that_the_device_does_not_take_gives_way_to_the_old_one(
    base: Path, manager: ModelManager, engine: Engine
) -> None:
    write_version(base, 1)
    manager.poll()
    write_version(base, 2)
    engine.refused = {"2": refuse(permanent=True)}
    manager.poll()
    assert engine.said[2:] == ["load 2", "close 1", "program 2", "close 2", "load 1", "program 1"]
    assert manager.available() == [1]
    statuses = {one.version: (one.state.name, one.message) for one in manager.statuses()}
    assert statuses == {2: ("END", "DeviceUnusable: x"), 1: ("AVAILABLE", "")}
    manager.poll()
    assert engine.said[-1] == "program 1"
    write_version(base, 3)
    manager.poll()
    assert (manager.available(), engine.said[-3:]) == ([3], ["load 3", "close 1", "program 3"])


def test_the_old_version_waits_while_the_new_one_is_tried_again(base: Path, engine: Engine) -> None:
    manager = ModelManager("m", base, engine, LoadSettings(max_retries=1, retry_seconds=0))
    write_version(base, 1)
    manager.poll()
    write_version(base, 2)
    engine.refused = {"2": refuse(permanent=False)}
    manager.poll()
    assert manager.available() == []
    assert (manager.obstacle, refusal(manager)) == (NO_MODEL, (grpc.StatusCode.UNAVAILABLE, NO_MODEL))
    assert refusal(manager, 2) == (grpc.StatusCode.UNAVAILABLE, NO_MODEL)
    assert refusal(manager, 1)[0] is grpc.StatusCode.NOT_FOUND
    manager.poll()
    assert (manager.available(), manager.obstacle) == ([1], "")
    assert engine.said.count("program 2") == 2


def test_a_device_without_a_model_is_no_healthy_server(
    base: Path, manager: ModelManager, engine: Engine
) -> None:
    said: list[bool] = []
    watch = DeviceWatch({"m": manager}, said.append)
    watch.look()
    write_version(base, 1)
    manager.poll()
    watch.look()
    write_version(base, 2)
    engine.refused = {one: refuse(permanent=True) for one in ("1", "2")}
    manager.poll()
    watch.look()
    assert manager.available() == []
    assert said == [False]
    manager.retire()
    assert manager.obstacle == ""


@pytest.mark.parametrize(("permanent", "tries"), [(True, 1), (False, 2)])
def test_putting_back_is_tried_as_often_as_any_load(
    base: Path, engine: Engine, permanent: bool, tries: int
) -> None:
    manager = ModelManager("m", base, engine, LoadSettings(max_retries=1, retry_seconds=0))
    write_version(base, 1)
    manager.poll()
    write_version(base, 2)
    engine.refused = {"1": refuse(permanent=permanent), "2": refuse(permanent=True)}
    for _ in range(4):
        manager.poll()
    assert manager.available() == []
    assert engine.said.count("program 1") == 1 + tries


def test_an_engine_that_crashes_while_programming(base: Path, manager: ModelManager, engine: Engine) -> None:
    def crash() -> None:
        raise RuntimeError("driver")

    engine.during = crash
    write_version(base, 1)
    manager.poll()
    assert not manager.opening
    assert engine.models[1].closed
    status = manager.status(1)
    assert status is not None
    assert (status.state, status.message) == (State.LOADING, "RuntimeError: driver")


def test_warm_up_runs_on_the_programmed_device(base: Path, engine: Engine) -> None:
    warmed: list[float] = []
    waits: list[str] = []

    def prepare(handle: ServableHandle) -> None:
        report = handle.device_report()
        assert report is not None
        warmed.append(report.programmed)
        waits.append(refusal(manager)[1])

    manager = ModelManager("m", base, engine, LoadSettings(), prepare=prepare)
    write_version(base, 1)
    manager.poll()
    assert (warmed, waits) == ([1.0], ["the device is programmed, and the model warms up"])
    assert manager.available() == [1]


def test_a_device_serves_one_version(base: Path, engine: Engine) -> None:
    manager = ModelManager("m", base, engine, LoadSettings(), All())
    for version in (1, 2):
        write_version(base, version)
    for _ in range(3):
        manager.poll()
    assert manager.available() == [1]
    status = manager.status(2)
    assert status is not None
    assert (status.state, status.code) == (State.END, grpc.StatusCode.FAILED_PRECONDITION)
    assert status.message == "the device holds one model, and version 1 of this one has it; serve one version"
    manager.configure(base, Latest())
    manager.poll()
    manager.poll()
    assert engine.said.count("program 1") == 1


def test_an_unhealthy_device(base: Path, manager: ModelManager, engine: Engine) -> None:
    write_version(base, 1)
    manager.poll()
    said: list[bool] = []
    watch = DeviceWatch({"m": manager}, said.append)
    watch.look()
    engine.device(1).fault = "too hot"
    for _ in range(2):
        watch.look()
    words = (grpc.StatusCode.UNAVAILABLE, "the device is unhealthy: too hot")
    assert refusal(manager) == words
    status = manager.status(1)
    assert status is not None
    assert (status.state, status.code, status.message) == (State.LOADING, *words)
    engine.device(1).fault = ""
    watch.look()
    with manager.acquire() as held:
        assert held.version == 1
    assert said == [False, True]


def test_the_end_of_the_start_does_not_hide_an_unhealthy_device(
    base: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may become unhealthy while the model warms up, and then the watch has said so already."""
    said: list[bool] = []
    server = ModelServer(Settings(model_name="m", model_base_path=base), engine, 1)
    monkeypatch.setattr(Ports, "open", lambda _, *, serving=True: said.append(serving))
    monkeypatch.setattr(Ports, "report", lambda _, *, serving: said.append(serving))
    monkeypatch.setattr(lifecycle, "wait_for", lambda _: None)
    warm_up = server._warm_up

    def spoiled(handle: ServableHandle) -> None:
        engine.device(1).fault = "too hot"
        server._open_early()
        server._device_watch.look()
        warm_up(handle)

    monkeypatch.setattr(server, "_warm_up", spoiled)
    write_version(base, 1)
    server.run()
    assert said[-1] is False
