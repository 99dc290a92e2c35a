"""One device for the versions of a server: which of them has it, how far it is programmed, and its health."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import grpc
import numpy as np

from serval_serving.devices.base import Arrays, Device, DevicePart, unusable
from serval_serving.engines.base import DeviceReport
from serval_serving.wire.status import StatusError

LOOK_SECONDS: Final = 1.0
"""Time between two looks at the device's health."""
QUIET_SECONDS: Final = 60.0
"""Longest wait for runs in progress before the device is programmed again."""
NOT_THIS_MODEL: Final = "the device is programmed with another model"
_log = logging.getLogger(__name__)


class SharedDevice:
    """A device that is open, and the model that has it.

    Parameters
    ----------
    device:
        It is open. A thread looks at its health from now on.
    look_seconds:
        Time between two looks.
    """

    def __init__(self, device: Device, look_seconds: float = LOOK_SECONDS) -> None:
        self.device = device
        self._changed = threading.Condition()
        self._owner: object | None = None
        self._programmed = 0.0
        self._runs = 0
        self._fault = ""
        self._look_seconds = look_seconds
        threading.Thread(target=self._watch, name="device-health", daemon=True).start()

    def report(self, owner: object) -> DeviceReport:
        """Say how the device is for a model."""
        device = self.device
        programmed = self._programmed if self._owner is owner else 0.0
        return DeviceReport(device.name, device.computes_on, device.emulated, programmed, self._fault)

    def program(self, owner: object, part: DevicePart) -> None:
        """Put a model onto the device.

        Raises
        ------
        ModelLoadError
            Another model has it, its runs do not end, or the device does not take the model.
        """
        with self._changed:
            if self._owner not in (None, owner):
                raise unusable("another model of this server has the device, which holds one")
            self._owner, self._programmed = owner, 0.0
            if not self._changed.wait_for(lambda: not self._runs, QUIET_SECONDS):
                raise unusable("runs in progress do not end", grpc.StatusCode.UNAVAILABLE, permanent=False)
        try:
            self.device.program(part, lambda done: self._note(min(done, 0.99)))
        except BaseException:
            self.release(owner)
            raise
        self._note(1.0)

    def run(self, owner: object, feeds: Arrays, timeout: float | None) -> dict[str, np.ndarray]:
        """Run one batch of a model.

        Raises
        ------
        StatusError
            UNAVAILABLE: the device is not programmed with it; or what the device says.
        """
        with self._running(owner):
            return self.device.run(feeds, timeout)

    def release(self, owner: object) -> None:
        """Let another model have the device."""
        with self._changed:
            if self._owner is owner:
                self._owner, self._programmed = None, 0.0

    @contextmanager
    def _running(self, owner: object) -> Iterator[None]:
        """Keep the device programmed."""
        with self._changed:
            if self._owner is not owner:
                raise StatusError(grpc.StatusCode.UNAVAILABLE, NOT_THIS_MODEL)
            if self._programmed < 1:
                raise StatusError(grpc.StatusCode.UNAVAILABLE, self.report(owner).obstacle)
            self._runs += 1
        try:
            yield
        finally:
            with self._changed:
                self._runs -= 1
                self._changed.notify_all()

    def _note(self, done: float) -> None:
        self._programmed = done

    def _watch(self) -> None:
        """Look at the health for as long as the process lives."""
        pause = threading.Event()
        while not pause.wait(self._look_seconds):
            try:
                fault = self.device.health()
            except Exception as error:  # noqa: BLE001  a device that cannot say how it is, is not well
                fault = f"{type(error).__name__}: {error}"
            if fault != self._fault:
                _log.warning("device=%s health=%s", self.device.name, fault or "healthy")
            self._fault = fault
