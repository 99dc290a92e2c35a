"""AMD's run time for DPUs (VART), such as on an Alveo U250: experimental, never run on hardware.

The model is an ``.xmodel`` that AMD's compiler made for the card's overlay. The modules `xir` and `vart` come
with AMD's Vitis AI, from no package registry. The calls are those of its Python documentation, version 2.5.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import grpc
import numpy as np

from serval_contract.devices import VART
from serval_serving.accel.artifact import DEVICE_XMODEL, Tensor
from serval_serving.devices.base import Arrays, DevicePart, DeviceSettings, Options, Progress, unusable
from serval_serving.devices.run_faults import RunFaults
from serval_serving.wire.status import StatusError


class VartDevice:
    """One DPU. XRT itself refuses a card that another process has.

    Raises
    ------
    ModelLoadError
        An option is given; there are none.
    """

    name = VART
    emulated = False
    computes_on = "DPU"

    def __init__(self, settings: DeviceSettings) -> None:
        Options(self.name, settings.options).finish()
        self._lock = threading.Lock()
        self._faults = RunFaults()
        self._part: DevicePart | None = None
        self._runner: Any = None

    def open(self) -> None:
        """Import AMD's modules; see `Device.open`."""
        try:
            self._xir, self._vart = _module("xir"), _module("vart")
        except ImportError as error:
            raise unusable(f"Vitis AI's run time is not installed: {error}") from error

    def program(self, part: DevicePart, progress: Progress) -> None:
        """Load the compiled model; VART tells no progress. See `Device.program`."""
        if part.file.name != DEVICE_XMODEL:
            raise unusable(f"engine {VART} runs a compiled {DEVICE_XMODEL}, not {part.file.name}")
        progress(0)
        self._runner = None
        try:
            graph = self._xir.Graph.deserialize(str(part.file))
            children = graph.get_root_subgraph().toposort_child_subgraph()
            found = [
                one for one in children if one.has_attr("device") and one.get_attr("device").upper() == "DPU"
            ]
            if len(found) != 1:
                raise unusable(f"{part.file.name} has {len(found)} parts for a DPU; one is supported")
            runner = self._vart.Runner.create_runner(found[0], "run")
            _check(part.file.name, part.inputs, runner.get_input_tensors())
            _check(part.file.name, part.outputs, runner.get_output_tensors())
        except RuntimeError as error:
            raise unusable(f"VART cannot load {part.file.name}: {error}") from error
        self._part, self._runner = part, runner
        self._faults.passed()

    def run(self, feeds: Arrays, timeout: float | None = None) -> dict[str, np.ndarray]:
        """Run one batch; it cannot be stopped. See `Device.run`."""
        assert self._part is not None  # noqa: S101  it was programmed
        if not self._lock.acquire(timeout=-1 if timeout is None else max(0.0, timeout)):
            raise StatusError(grpc.StatusCode.DEADLINE_EXCEEDED, "the device is busy")
        try:
            given = self._runner.get_input_tensors()
            made = self._runner.get_output_tensors()
            inputs = [_fixed(feeds[t.name], own) for t, own in zip(self._part.inputs, given, strict=True)]
            outputs = [np.empty(tuple(own.dims), _kind(own), order="C") for own in made]
            job = self._runner.execute_async(inputs, outputs)
            # Newer versions return the job's number and a status.
            self._runner.wait(job[0] if isinstance(job, tuple) else job)
        except RuntimeError as error:
            words = f"the device failed: {error}"
            self._faults.failed(words)
            raise StatusError(grpc.StatusCode.UNAVAILABLE, words) from error
        finally:
            self._lock.release()
        self._faults.passed()
        arrays = [_floating(array, own) for array, own in zip(outputs, made, strict=True)]
        return {t.name: array for t, array in zip(self._part.outputs, arrays, strict=True)}

    def health(self) -> str:
        """Judge the runs; VART has no call for health. See `Device.health`."""
        return self._faults.fault

    def close(self) -> None:
        """Drop the runner, which frees the card; see `Device.close`."""
        self._runner = None


def _module(name: str) -> ModuleType:
    return __import__(name)


def _check(file: str, wanted: Sequence[Tensor], found: Sequence[Any]) -> None:
    """Compare tensors in their order: the compiler changes their names."""
    for one, own in zip(wanted, found, strict=False):
        if tuple(own.dims) != one.shape:
            raise unusable(f"{file}: {own.name} has shape {tuple(own.dims)}, and {one.name} has {one.shape}")
    if len(wanted) != len(found):
        raise unusable(f"{file} has {len(found)} tensors where conversion.json has {len(wanted)}")


def _kind(tensor: Any) -> type[np.generic]:
    return np.int8 if tensor.has_attr("fix_point") else np.float32


def _fixed(array: np.ndarray, tensor: Any) -> np.ndarray:
    """Make a DPU's integers: multiples of a power of two."""
    if not tensor.has_attr("fix_point"):
        return np.ascontiguousarray(array, np.float32)
    scaled = np.rint(array * np.float32(2.0 ** tensor.get_attr("fix_point")))
    return np.ascontiguousarray(np.clip(scaled, -128, 127), np.int8)


def _floating(array: np.ndarray, tensor: Any) -> np.ndarray:
    if not tensor.has_attr("fix_point"):
        return array
    return array.astype(np.float32) * np.float32(2.0 ** -tensor.get_attr("fix_point"))
