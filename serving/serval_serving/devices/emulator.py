"""The emulator: the device part runs on ONNX Runtime's CPU provider. There is no device.

What it reproduces: the numbers of the int8 model, the time of programming, one model at a time, exclusive
units, and failures of health. Its latency is that of a CPU and says nothing about a device.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final

import grpc
import numpy as np

from serval_contract.devices import EMULATED_DOMAIN, EMULATION_REFUSED, EMULATOR
from serval_contract.metrics import EMULATED_DEVICE
from serval_serving.accel.artifact import DEVICE_ONNX
from serval_serving.devices.base import Arrays, DevicePart, DeviceSettings, Options, Progress, unusable
from serval_serving.devices.unit_locks import WHOLE_DEVICE, UnitLocks, unit_file
from serval_serving.engines.base import ModelLoadError
from serval_serving.engines.onnx_session import OnnxRuntime, OnnxSession

PROGRAMMING_SECONDS: Final = 3.0
"""A card takes seconds to minutes; long enough to be seen, short enough to wait for."""
_STEPS: Final = 20
_LONGEST_FAULT: Final = 200


class Emulator:
    """A device that is not there.

    Options: `programming_seconds`, and `health_file`, a file that makes the device unhealthy while it exists;
    its text is the fault. By default it is ``unit-<id>.unhealthy`` beside the lock of the first unit.

    Raises
    ------
    ModelLoadError
        An option is wrong.
    """

    name = EMULATOR
    emulated = True
    computes_on = EMULATED_DEVICE

    def __init__(self, settings: DeviceSettings) -> None:
        options = Options(self.name, settings.options)
        self._seconds = options.take("programming_seconds", PROGRAMMING_SECONDS)
        health_file = options.take("health_file", "")
        options.finish()
        self._settings = settings
        self._faults = [Path(health_file)] if health_file else []
        self._locks: UnitLocks | None = None
        if settings.lock_dir is not None:
            self._locks = UnitLocks(settings.lock_dir, settings.units, settings.holder)
            units = settings.units or (WHOLE_DEVICE,)
            self._faults += [unit_file(settings.lock_dir, unit, "unhealthy") for unit in units]
        self._runtime: OnnxRuntime | None = None
        self._session: OnnxSession | None = None
        self._closed = threading.Event()

    def open(self) -> None:
        """Take the locks of the units; see `Device.open`."""
        resource = self._settings.resource
        if resource and not resource.startswith(EMULATED_DOMAIN) and not self._settings.allow_emulation:
            words = (
                f"{resource} is a resource of a real card, and the emulator would keep it from those who use"
                f" it; hold a resource {EMULATED_DOMAIN}..., or allow emulation in the accelerator's profile"
            )
            message = f"{EMULATION_REFUSED}: {words}"
            raise ModelLoadError(grpc.StatusCode.FAILED_PRECONDITION, message, permanent=True)
        if self._locks is not None:
            self._locks.take()
        self._runtime = OnnxRuntime()

    def program(self, part: DevicePart, progress: Progress) -> None:
        """Load the model and take the time that a card takes; see `Device.program`."""
        if part.file.name != DEVICE_ONNX:
            raise unusable(f"the emulator runs {DEVICE_ONNX}; {part.file.name} is compiled for a device")
        assert self._runtime is not None  # noqa: S101  it was opened
        self._session = None
        session = self._runtime.open(part.file, self._settings.threads)
        for step in range(_STEPS):
            progress(step / _STEPS)
            if self._closed.wait(self._seconds / _STEPS):
                raise unusable("the server ends", grpc.StatusCode.CANCELLED)
        self._session = session

    def run(self, feeds: Arrays, timeout: float | None = None) -> dict[str, np.ndarray]:
        """Run the model on the CPU; see `Device.run`."""
        assert self._session is not None  # noqa: S101  it was programmed
        return self._session.run(feeds, timeout)

    def health(self) -> str:
        """Read the files that make the device unhealthy; see `Device.health`."""
        for path in self._faults:
            try:
                with path.open("rb") as file:
                    text = file.read(_LONGEST_FAULT)
            except OSError:
                continue
            return text.decode(errors="replace").strip() or f"{path.name} exists"
        return ""

    def close(self) -> None:
        """Give the units back; see `Device.close`."""
        self._closed.set()
        self._session = None
        if self._locks is not None:
            self._locks.release()
