"""Any execution provider as a device: the refusals by the real ONNX Runtime, and runs beside a stand-in.

No execution provider for hardware is installed here. So that runs can be tested, a stand-in takes the name of
one, and the real CPU provider computes for it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from serval_serving.accel.artifact import DEVICE_ONNX, Tensor
from serval_serving.devices import execution_provider
from serval_serving.devices.base import DevicePart, DeviceSettings
from serval_serving.devices.choice import make_device
from serval_serving.devices.execution_provider import ExecutionProviderDevice
from serval_serving.devices.run_faults import FAILURES
from serval_serving.engines.base import ModelLoadError
from serval_serving.wire.status import StatusError
from unit.serving.engines.artifacts import MADE, PIXELS, SIDE, offline, write_artifact
from unit.serving.engines.onnx_models import model

VITIS = "VitisAIExecutionProvider"


def made(**options: Any) -> ExecutionProviderDevice:
    device = make_device("onnxruntime-ep", DeviceSettings(options=options))
    assert isinstance(device, ExecutionProviderDevice)
    return device


def program(device: ExecutionProviderDevice, folder: Path, file: str = DEVICE_ONNX) -> None:
    device.program(DevicePart(folder / file, (PIXELS,), (MADE,)), lambda _: None)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"provider": "VitisAI"}, "this build of ONNX Runtime has no VitisAIExecutionProvider; it has"),
        ({"provider": VITIS}, "this build of ONNX Runtime has no VitisAIExecutionProvider; it has"),
        ({"provider": "CPU"}, "the CPU is no device; the engine emulator runs on it"),
        ({"provider": "Card", "library": "/absent.so"}, "ONNX Runtime cannot load /absent.so"),
    ],
)
def test_what_is_not_there_is_refused(options: dict[str, str], words: str) -> None:
    """ONNX Runtime itself only warns, and computes on the CPU."""
    with pytest.raises(ModelLoadError, match=f"DeviceUnusable: {words}"):
        made(**options).open()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "needs the option provider"),
        ({"provider": "VitisAI", "options": {"a": 1}}, "option options must be an object of texts"),
        ({"provider": "VitisAI", "config": "x"}, "there is no option config"),
    ],
)
def test_options_are_checked(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelLoadError, match=words):
        made(**options)


def test_the_real_runtime_refuses_the_cpu_for_the_device_part(tmp_path: Path) -> None:
    """This provider is in every build and runs no operator, so the CPU would run all of them."""
    device = made(provider="Azure")
    device.open()
    with pytest.raises(ModelLoadError, match=r"AzureExecutionProvider does not run device.onnx: .*fallback"):
        program(device, write_artifact(tmp_path))


class StandIn:
    """ONNX Runtime with a provider more, for which the CPU's one computes."""

    def __init__(self, share: Callable[[str], str] = lambda _: VITIS) -> None:
        self.share = share
        self.registered: list[tuple[str, str]] = []
        self.asked: dict[str, Any] = {}
        self.entries: dict[str, str] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(onnxruntime, name)

    def get_available_providers(self) -> list[str]:
        return [VITIS, "CPUExecutionProvider"]

    def register_execution_provider_library(self, name: str, path: str) -> None:
        self.registered.append((name, path))

    def get_ep_devices(self) -> list[Any]:
        return [SimpleNamespace(ep_name=name) for name in ("CPUExecutionProvider", "card", "card")]

    def SessionOptions(self) -> Any:  # noqa: N802  the runtime's name
        return _Options(self)

    def InferenceSession(self, file: str, options: Any, **asked: Any) -> Any:  # noqa: N802  the same
        self.asked.update(asked)
        return _Session(onnxruntime.InferenceSession(file, options.real), self.share)


class _Options:
    def __init__(self, owner: StandIn) -> None:
        self.__dict__.update(real=onnxruntime.SessionOptions(), owner=owner)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.real, name, value)

    def add_session_config_entry(self, key: str, value: str) -> None:
        self.owner.entries[key] = value

    def add_provider_for_devices(self, devices: list[Any], options: dict[str, str]) -> None:
        self.owner.asked["devices"] = ([one.ep_name for one in devices], options)


class _Session:
    def __init__(self, real: Any, share: Callable[[str], str]) -> None:
        self._real, self._share = real, share

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def get_provider_graph_assignment_info(self) -> list[Any]:
        operators = ("Conv", "Transpose")
        return [
            SimpleNamespace(ep_name=self._share(one), get_nodes=lambda one=one: [one]) for one in operators
        ]


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    runtime = StandIn()
    monkeypatch.setattr(execution_provider, "import_runtime", lambda: runtime)
    return runtime


def test_a_provider_of_this_build(stand_in: StandIn, tmp_path: Path) -> None:
    device = made(provider="VitisAI", options={"config_file": "/x.json"})
    device.open()
    folder = write_artifact(tmp_path)
    program(device, folder)
    assert stand_in.asked == {"providers": [(VITIS, {"config_file": "/x.json"})], "enable_fallback": False}
    assert stand_in.entries["session.disable_cpu_ep_fallback"] == "1"
    x = np.ones((2, SIDE, SIDE, 3), np.float32)
    assert np.array_equal(device.run({PIXELS.name: x})[MADE.name], offline(folder, x)[MADE.name])
    assert (device.emulated, device.computes_on, device.health()) == (False, "VitisAI", "")


def test_a_provider_from_a_library(stand_in: StandIn, tmp_path: Path) -> None:
    device = made(provider="card", library="/opt/card.so", options={"slot": "1"})
    stand_in.share = lambda _: "card"
    device.open()
    assert stand_in.registered == [("card", "/opt/card.so")]
    program(device, write_artifact(tmp_path))
    assert stand_in.asked == {"devices": (["card", "card"], {"slot": "1"}), "enable_fallback": False}


def test_a_library_without_the_device(stand_in: StandIn) -> None:
    with pytest.raises(
        ModelLoadError, match="brings no device of other; there are: CPUExecutionProvider, card"
    ):
        made(provider="other", library="/opt/card.so").open()
    assert stand_in.registered == [("other", "/opt/card.so")]


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (lambda name: VITIS if name == "Conv" else "CPUExecutionProvider", "others: CPUExecutionProvider 1"),
        (lambda _: "CPUExecutionProvider", "runs 0 operators of 2"),
    ],
)
def test_a_part_on_the_cpu_is_refused(
    stand_in: StandIn, tmp_path: Path, share: Callable[[str], str], words: str
) -> None:
    stand_in.share = share
    device = made(provider="VitisAI")
    device.open()
    with pytest.raises(ModelLoadError, match=words):
        program(device, write_artifact(tmp_path))


@pytest.mark.usefixtures("stand_in")
def test_bad_values_of_callers_do_not_make_the_device_unhealthy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids, rows = Tensor("ids:0", "int32", (None, 1)), Tensor("rows:0", "float32", (None, 1))
    node = helper.make_node("Gather", ["table", ids.name], [rows.name])
    described = [(ids.name, TensorProto.INT32, ["N", 1])], [(rows.name, TensorProto.FLOAT, ["N", 1])]
    gather = model([node], *described, {"table": np.arange(4, dtype=np.float32)})
    (tmp_path / DEVICE_ONNX).write_bytes(gather.SerializeToString())
    device = made(provider="VitisAI")
    device.open()
    device.program(DevicePart(tmp_path / DEVICE_ONNX, (ids,), (rows,)), lambda _: None)
    for _ in range(FAILURES):
        with pytest.raises(StatusError, match="out of data bounds"):
            device.run({ids.name: np.array([[99]], np.int32)})
    assert device.health() == ""

    def fail(*_: Any) -> None:
        raise onnxruntime.capi.onnxruntime_pybind11_state.Fail("[ONNXRuntimeError] : 1 : FAIL : card")

    monkeypatch.setattr(_Session, "run", fail, raising=False)
    for _ in range(FAILURES):
        with pytest.raises(StatusError):
            device.run({ids.name: np.array([[1]], np.int32)})
    assert device.health() == "3 runs failed, the last one with: card"
