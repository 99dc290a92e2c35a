"""The engine for AMD's run time, against stand-ins for its two modules."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from serval_serving.accel.artifact import DEVICE_ONNX, DEVICE_XMODEL, Tensor
from serval_serving.devices.base import DevicePart, DeviceSettings
from serval_serving.devices.choice import make_device
from serval_serving.devices.run_faults import FAILURES
from serval_serving.devices.vart import VartDevice
from serval_serving.engines.base import ModelLoadError
from serval_serving.wire.status import StatusError
from unit.serving.devices.silicon import modules

GOOD = {"devices": ["CPU", "DPU", "CPU"], "in": [1, 3], "out": [1, 3]}
X, Y = Tensor("x:0", "float32", (1, 3)), Tensor("y:0", "float32", (1, 3))


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> VartDevice:
    for name, module in modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    made = make_device("vart", DeviceSettings())
    assert isinstance(made, VartDevice)
    made.open()
    return made


def program(device: VartDevice, folder: Path, told: dict[str, Any] | str, file: str = DEVICE_XMODEL) -> None:
    (folder / file).write_text(told if isinstance(told, str) else json.dumps(told))
    device.program(DevicePart(folder / file, (X,), (Y,)), lambda _: None)


@pytest.mark.parametrize("pairs", [False, True])
def test_floats(device: VartDevice, tmp_path: Path, pairs: bool) -> None:
    program(device, tmp_path, {**GOOD, "pairs": pairs})
    made = device.run({"x:0": np.float32([[1, -2, 3.5]])})
    assert {name: array.tolist() for name, array in made.items()} == {"y:0": [[2.0, -4.0, 7.0]]}
    assert device.health() == ""
    assert (device.name, device.emulated, device.computes_on) == ("vart", False, "DPU")


def test_a_dpus_integers_are_multiples_of_powers_of_two(device: VartDevice, tmp_path: Path) -> None:
    """In steps of 1/4 from -32 to 31.75; the device's answer is in steps of 1/2."""
    program(device, tmp_path, {**GOOD, "in_fix": 2, "out_fix": 1})
    made = device.run({"x:0": np.float32([[1.12, -1.13, 15]])})["y:0"]
    assert made.dtype == np.float32
    # 1.12 becomes 4 steps, -1.13 becomes -5; doubled, and read as halves.
    assert made.tolist() == [[4.0, -5.0, 60.0]]
    # What is out of range becomes -128; doubled in 8 bits that is 0.
    assert device.run({"x:0": np.float32([[-99, 0, 0]])})["y:0"][0, 0] == 0


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ("damaged", "VART cannot load device.xmodel: not an xmodel"),
        ({**GOOD, "devices": ["CPU"]}, "device.xmodel has 0 parts for a DPU"),
        ({**GOOD, "devices": ["DPU", "DPU"]}, "device.xmodel has 2 parts for a DPU"),
        ({**GOOD, "in": [4, 3]}, r"in_fix has shape \(4, 3\), and x:0 has \(1, 3\)"),
        ({**GOOD, "out": [1, 2]}, r"out_fix has shape \(1, 2\), and y:0 has \(1, 3\)"),
    ],
)
def test_models_that_do_not_fit(device: VartDevice, tmp_path: Path, told: Any, words: str) -> None:
    with pytest.raises(ModelLoadError, match=f"DeviceUnusable: .*{words}"):
        program(device, tmp_path, told)


def test_an_onnx_model_is_refused(device: VartDevice, tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"engine vart runs a compiled device.xmodel, not device.onnx"):
        program(device, tmp_path, "", DEVICE_ONNX)


def test_a_device_that_fails_again_and_again_is_unhealthy(device: VartDevice, tmp_path: Path) -> None:
    program(device, tmp_path, {**GOOD, "runs": 1})
    x = {"x:0": np.zeros((1, 3), np.float32)}
    device.run(x)
    for _ in range(FAILURES):
        assert device.health() == ""
        with pytest.raises(StatusError, match="the device failed: DPU timeout") as caught:
            device.run(x)
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert device.health() == "3 runs failed, the last one with: the device failed: DPU timeout"
    program(device, tmp_path, GOOD)
    assert device.health() == ""


def test_without_amds_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("xir", "vart"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModelLoadError, match="Vitis AI's run time is not installed"):
        VartDevice(DeviceSettings()).open()


def test_it_has_no_options() -> None:
    with pytest.raises(ModelLoadError, match="there is no option programming_seconds"):
        VartDevice(DeviceSettings(options={"programming_seconds": 0}))
