"""Any execution provider of ONNX Runtime as a device: one of this build, or one from a plug-in library.

ONNX Runtime only warns where a provider is not there, and the CPU then runs the model. So this engine looks
first, forbids the CPU for the device part, and compares what ran where. It was never run on an FPGA.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import grpc
import numpy as np

from serval_contract.devices import ONNXRUNTIME_EP
from serval_serving.accel.artifact import DEVICE_ONNX
from serval_serving.devices.base import Arrays, DevicePart, DeviceSettings, Options, Progress, unusable
from serval_serving.devices.run_faults import RunFaults
from serval_serving.engines.deadlines import DeadlineWatch
from serval_serving.engines.onnx_session import OnnxSession, import_runtime, session_options, status_of
from serval_serving.engines.providers import RECORD, shares
from serval_serving.wire.status import StatusError

_SUFFIX: Final = "ExecutionProvider"
_CPU: Final = "CPUExecutionProvider"
_NO_CPU: Final = ("session.disable_cpu_ep_fallback", "1")
_VALUE_REFUSED: Final = "InvalidArgument"
"""ONNX Runtime's error for values such as an index behind the end; a device that fails raises another one."""
_TELLING_LINES: Final = 300


class ExecutionProviderDevice:
    """An execution provider.

    Options: `provider`, its name with or without ``ExecutionProvider``; `options`, its options by name; and
    `library`, the path of a plug-in library that brings it.

    Raises
    ------
    ModelLoadError
        An option is wrong or missing.
    """

    name = ONNXRUNTIME_EP
    emulated = False

    def __init__(self, settings: DeviceSettings) -> None:
        options = Options(self.name, settings.options)
        provider = options.take("provider", "")
        self._library = options.take("library", "")
        self._options = options.take_texts("options")
        options.finish()
        if not provider:
            raise unusable(f"engine {self.name} needs the option provider")
        self.computes_on = provider.removesuffix(_SUFFIX)
        # A plug-in may have any name.
        self._provider = provider if self._library else self.computes_on + _SUFFIX
        self._threads = settings.threads
        self._watch = DeadlineWatch()
        self._runtime: Any = None
        self._session: OnnxSession | None = None
        self._devices: list[Any] = []
        self._faults = RunFaults()

    def open(self) -> None:
        """Look for the provider; see `Device.open`."""
        self._runtime = import_runtime()
        if self._library:
            self._open_library()
            return
        available = self._runtime.get_available_providers()
        if self._provider == _CPU:
            raise unusable("the CPU is no device; the engine emulator runs on it")
        if self._provider not in available:
            has = ", ".join(available)
            raise unusable(f"this build of ONNX Runtime has no {self._provider}; it has {has}")

    def program(self, part: DevicePart, progress: Progress) -> None:
        """Open a session that the provider alone runs; see `Device.program`."""
        if part.file.name != DEVICE_ONNX:
            raise unusable(f"engine {self.name} runs {DEVICE_ONNX}, not {part.file.name}")
        progress(0)
        self._session = None
        options = session_options(self._runtime, self._threads)
        options.add_session_config_entry(*_NO_CPU)
        options.add_session_config_entry(*RECORD)
        providers: dict[str, Any] = {}
        if self._devices:
            options.add_provider_for_devices(self._devices, self._options)
        else:
            providers = {"providers": [(self._provider, self._options)]}
        try:
            session = self._runtime.InferenceSession(
                str(part.file), options, enable_fallback=False, **providers
            )
        except Exception as error:
            words = status_of(error)[1][:_TELLING_LINES]
            raise unusable(f"{self._provider} does not run {part.file.name}: {words}") from error
        _check_alone(self._provider, shares(session))
        self._session = OnnxSession(self._runtime, session, self._watch)
        self._faults.passed()

    def run(self, feeds: Arrays, timeout: float | None = None) -> dict[str, np.ndarray]:
        """Run one batch; see `Device.run`."""
        assert self._session is not None  # noqa: S101  it was programmed
        try:
            results = self._session.run(feeds, timeout)
        except StatusError as error:
            # Shapes and types were checked, so what fails here is the device, unless time ran out or the
            # caller sent a value that the model does not take.
            refused = type(error.__cause__).__name__ == _VALUE_REFUSED
            if error.code is not grpc.StatusCode.DEADLINE_EXCEEDED and not refused:
                self._faults.failed(error.message)
            raise
        self._faults.passed()
        return results

    def health(self) -> str:
        """Judge the runs; ONNX Runtime has no call for health. See `Device.health`."""
        return self._faults.fault

    def close(self) -> None:
        """Drop the session; see `Device.close`."""
        self._session = None

    def _open_library(self) -> None:
        """Register the library and find its devices."""
        try:
            self._runtime.register_execution_provider_library(self._provider, self._library)
        except Exception as error:
            words = status_of(error)[1][:_TELLING_LINES]
            raise unusable(f"ONNX Runtime cannot load {self._library}: {words}") from error
        every = self._runtime.get_ep_devices()
        self._devices = [one for one in every if one.ep_name == self._provider]
        if not self._devices:
            names = ", ".join(sorted({one.ep_name for one in every})) or "none"
            raise unusable(f"{self._library} brings no device of {self._provider}; there are: {names}")


def _check_alone(provider: str, taken: Counter[str]) -> None:
    """Refuse a session of which another provider runs a part."""
    others = {name: count for name, count in taken.items() if name != provider and count}
    if others or not taken[provider]:
        told = ", ".join(f"{name} {count}" for name, count in sorted(others.items())) or "nothing runs it"
        raise unusable(f"{provider} runs {taken[provider]} operators of {taken.total()}; others: {told}")
