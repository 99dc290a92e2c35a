from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serval_serving.accel.artifact import DEVICE_ONNX, DEVICE_XMODEL
from serval_serving.devices.base import DevicePart, DeviceSettings
from serval_serving.devices.choice import make_device
from serval_serving.devices.emulator import Emulator
from serval_serving.engines.base import ModelLoadError
from unit.serving.engines.artifacts import MADE, PIXELS, SIDE, write_artifact

AT_ONCE = {"programming_seconds": 0}
CARD = "amd.com/xilinx_u250_gen3x16_xdma_shell_2_1-0"


def part(folder: Path, file: str = DEVICE_ONNX) -> DevicePart:
    return DevicePart(folder / file, (PIXELS,), (MADE,))


def test_it_programs_with_progress_and_runs(tmp_path: Path) -> None:
    told: list[float] = []
    device = make_device("emulator", DeviceSettings(options=AT_ONCE))
    device.open()
    device.program(part(write_artifact(tmp_path)), told.append)
    assert told == sorted(told)
    assert told[0] == 0
    assert 0.9 < told[-1] < 1
    made = device.run({PIXELS.name: np.zeros((2, SIDE, SIDE, 3), np.float32)})
    assert {name: array.shape for name, array in made.items()} == {MADE.name: (2, 4)}
    assert (device.name, device.emulated, device.computes_on) == ("emulator", True, "emulated")


def test_programming_takes_time_and_ends_with_the_device(tmp_path: Path) -> None:
    device = Emulator(DeviceSettings(options={"programming_seconds": 3600}))
    device.open()
    begun, refused = threading.Event(), []

    def program() -> None:
        try:
            device.program(part(write_artifact(tmp_path)), lambda _: begun.set())
        except ModelLoadError as error:
            refused.append(str(error))

    thread = threading.Thread(target=program)
    thread.start()
    assert begun.wait(60)
    device.close()
    thread.join(60)
    assert refused == ["Cancelled: DeviceUnusable: the server ends"]


@pytest.mark.parametrize("units", [(), ("fpga-0", "fpga-1")])
def test_files_make_it_unhealthy(tmp_path: Path, units: tuple[str, ...]) -> None:
    own = tmp_path / "own"
    options = {**AT_ONCE, "health_file": str(own)}
    device = Emulator(DeviceSettings(options=options, lock_dir=tmp_path, units=units))
    assert device.health() == ""
    own.write_text("")
    assert device.health() == "own exists"
    own.unlink()
    (tmp_path / f"unit-{units[-1] if units else 'device'}.unhealthy").write_text("too hot\n")
    assert device.health() == "too hot"


def test_it_holds_units_and_gives_them_back(tmp_path: Path) -> None:
    settings = DeviceSettings(lock_dir=tmp_path, units=("fpga-0",), holder="pod-a")
    first, second = Emulator(settings), Emulator(settings)
    first.open()
    with pytest.raises(ModelLoadError, match="DeviceHeld: unit fpga-0 is held by pod-a"):
        second.open()
    first.close()
    second.open()


@pytest.mark.parametrize(
    ("resource", "allowed", "opens"),
    [
        ("", False, True),
        ("emulated.serval.dev/u250", False, True),
        (CARD, False, False),
        (CARD, True, True),
        ("emulated.serval.dev.example.com/u250", False, False),
    ],
)
def test_it_keeps_no_real_card_from_others(tmp_path: Path, resource: str, allowed: bool, opens: bool) -> None:
    device = Emulator(DeviceSettings(lock_dir=tmp_path, resource=resource, allow_emulation=allowed))
    if opens:
        device.open()
        return
    with pytest.raises(ModelLoadError, match=r"EmulationRefused: .* is a resource of a real card"):
        device.open()
    assert list(tmp_path.iterdir()) == []


def test_a_compiled_model_is_refused(tmp_path: Path) -> None:
    device = Emulator(DeviceSettings(options=AT_ONCE))
    device.open()
    with pytest.raises(ModelLoadError, match=r"device.xmodel is compiled for a device"):
        device.program(part(tmp_path, DEVICE_XMODEL), lambda _: None)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"programming_second": 1}, "there is no option programming_second"),
        ({"programming_seconds": "1"}, "option programming_seconds must be a number, not '1'"),
        ({"programming_seconds": -1}, "must be a number"),
        ({"programming_seconds": float("nan")}, "must be a number"),
        ({"programming_seconds": float("inf")}, "must be a number"),
        ({"programming_seconds": True}, "must be a number"),
        ({"health_file": 1}, "option health_file must be text"),
    ],
)
def test_options_are_checked(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelLoadError) as caught:
        Emulator(DeviceSettings(options=options))
    assert "DeviceUnusable: --device_options of engine emulator: " in str(caught.value)
    assert words in str(caught.value)
