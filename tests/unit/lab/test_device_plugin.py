"""The fake device plugin over its real socket; the kubelet's side of it is played by the test."""

from __future__ import annotations

import stat
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import grpc
import pytest

from serval_lab import device_api as api
from serval_lab import device_control as control
from serval_lab.device_plugin import LOCKS_IN_CONTAINER, FakeDevice
from support.wait import until

RESOURCE = "emulated.serval.dev/fpga"
LIMIT = 20.0
TYPES = api.messages()


def serialize(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data


class Kubelet:
    """The registration service in a folder of device plugins, and calls of the plugin that registered."""

    def __init__(self, plugins: Path) -> None:
        self.registered: list[Any] = []
        self._plugins = plugins
        register = grpc.unary_unary_rpc_method_handler(
            self._register,
            request_deserializer=TYPES["RegisterRequest"].FromString,
            response_serializer=serialize,
        )
        self._server = grpc.server(ThreadPoolExecutor(2))
        handlers = grpc.method_handlers_generic_handler(api.REGISTRATION, {"Register": register})
        self._server.add_generic_rpc_handlers((handlers,))
        self._server.add_insecure_port(f"unix://{plugins}/kubelet.sock")

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.stop(grace=None).wait(LIMIT)

    def _register(self, request: Any, _context: Any) -> Any:
        self.registered.append(request)
        return TYPES["Empty"]()

    @property
    def channel(self) -> grpc.Channel:
        return grpc.insecure_channel(f"unix://{self._plugins}/{self.registered[-1].endpoint}")

    def allocate(self, *containers: list[str]) -> list[Any]:
        """Allocate units for each container."""
        asked = [TYPES["ContainerAllocateRequest"](devices_ids=units) for units in containers]
        with self.channel as channel:
            call = channel.unary_unary(
                f"/{api.DEVICE_PLUGIN}/Allocate",
                request_serializer=serialize,
                response_deserializer=TYPES["AllocateResponse"].FromString,
            )
            answer = call(TYPES["AllocateRequest"](container_requests=asked), timeout=LIMIT)
        return list(answer.container_responses)


@pytest.fixture
def plugins() -> Iterator[Path]:
    """A folder of sockets, whose paths have at most 107 characters."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture
def kubelet(plugins: Path) -> Iterator[Kubelet]:
    with Kubelet(plugins) as kubelet:
        yield kubelet


@pytest.fixture
def state() -> control.DeviceState:
    return control.DeviceState(RESOURCE, 4)


@pytest.fixture
def device(kubelet: Kubelet, state: control.DeviceState, plugins: Path, tmp_path: Path) -> FakeDevice:
    device = FakeDevice(tmp_path, state, plugins, tmp_path / "locks")
    device.keep_registered()
    assert [one.resource_name for one in kubelet.registered] == [RESOURCE]
    return device


def environment(answer: Any) -> dict[str, str]:
    return {entry.key: entry.value for entry in answer.envs}


@pytest.mark.usefixtures("device")
def test_containers_of_a_resource_get_one_folder_of_locks_and_their_own_units(
    kubelet: Kubelet, tmp_path: Path
) -> None:
    first, second = kubelet.allocate(["unit-0"], ["unit-1", "unit-3"])
    folders = {mount.host_path for mount in (*first.mounts, *second.mounts)}
    assert folders == {str(tmp_path / "locks" / "emulated.serval.dev_fpga")}
    assert [mount.container_path for mount in first.mounts] == [LOCKS_IN_CONTAINER]
    assert environment(first)["SERVAL_DEVICE_LOCK_DIR"] == LOCKS_IN_CONTAINER
    assert environment(first)["SERVAL_DEVICE_UNITS"] == "unit-0"
    assert environment(second)["SERVAL_DEVICE_UNITS"] == "unit-1,unit-3"
    assert "no silicon" in environment(first)["SERVAL_LAB_DEVICE"]
    folder = Path(first.mounts[0].host_path)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())}
    locks = dict.fromkeys(["unit-unit-0.lock", "unit-unit-1.lock", "unit-unit-3.lock"], 0o666)
    assert modes == {folder.name: 0o1777, **locks}, "a container runs as any user"


def test_resources_of_a_node_share_no_locks(kubelet: Kubelet, plugins: Path, tmp_path: Path) -> None:
    folders = set()
    for resource in (RESOURCE, "amd.com/xilinx_u250"):
        state = control.DeviceState(resource, 1)
        FakeDevice(tmp_path, state, plugins, tmp_path / "locks").keep_registered()
        (answer,) = kubelet.allocate(["unit-0"])
        folders.add(answer.mounts[0].host_path)
    assert len(folders) == 2


def test_units_that_share_a_card_are_told_the_same_one(
    kubelet: Kubelet, device: FakeDevice, state: control.DeviceState
) -> None:
    device.update(replace(state, cards=2))
    cards = [
        environment(answer)["SERVAL_DEVICE_UNITS"] for answer in kubelet.allocate(["unit-0"], ["unit-2"])
    ]
    assert cards == ["unit-0", "unit-0"]


def test_faults_of_cards_lie_beside_their_locks_until_they_are_healed(
    device: FakeDevice, state: control.DeviceState, tmp_path: Path
) -> None:
    folder = tmp_path / "locks" / "emulated.serval.dev_fpga"
    device.update(replace(state, faults={"unit-0": "too hot", "unit-1": "no link"}))
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        "unit-unit-0.unhealthy": "too hot",
        "unit-unit-1.unhealthy": "no link",
    }
    device.update(replace(state, faults={"unit-1": "no link"}))
    assert [path.name for path in folder.iterdir()] == ["unit-unit-1.unhealthy"]


def test_a_refusal_carries_its_message(
    kubelet: Kubelet, device: FakeDevice, state: control.DeviceState
) -> None:
    device.update(replace(state, refuse="no such luck"))
    with pytest.raises(grpc.RpcError, match="no such luck") as refused:
        kubelet.allocate(["unit-0"])
    assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION


def unhealthy(answer: Any) -> list[str]:
    return [one.ID for one in answer.devices if one.health == api.UNHEALTHY]


def test_a_watcher_sees_units_become_unhealthy_and_well_again(
    kubelet: Kubelet, device: FakeDevice, state: control.DeviceState, tmp_path: Path
) -> None:
    with kubelet.channel as channel:
        watch = channel.unary_stream(
            f"/{api.DEVICE_PLUGIN}/ListAndWatch",
            request_serializer=serialize,
            response_deserializer=TYPES["ListAndWatchResponse"].FromString,
        )
        stream = watch(TYPES["Empty"](), timeout=LIMIT)
        seen = [unhealthy(next(stream))]
        for change in (replace(state, unhealthy=("unit-1",), generation=2), replace(state, generation=3)):
            device.update(change)
            seen.append(unhealthy(next(stream)))
        until("the last change noted as told", lambda: control.acknowledged(tmp_path, RESOURCE) == 3)
        stream.cancel()
    assert seen == [[], ["unit-1"], []]
