"""The engine for artifacts of AcceleratedModels: host part, device part, classifier.

Loading prepares everything on the CPU; only `AcceleratedModel.program` touches the device. So a damaged
artifact never takes the model away that the device holds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import grpc
import numpy as np

from serval_serving.accel.artifact import STRING, Conversion, Tensor
from serval_serving.devices.base import DevicePart, DeviceSettings
from serval_serving.devices.choice import make_device
from serval_serving.engines.artifact_files import checked_artifact
from serval_serving.engines.base import (
    DEFAULT_SIGNATURE,
    TIMED_OUT,
    DeviceReport,
    Exclusive,
    ModelLoadError,
    Signature,
    signature_of,
)
from serval_serving.engines.declared import defined
from serval_serving.engines.host_parts import HostPart, open_host
from serval_serving.engines.onnx_session import OnnxRuntime, OnnxSession
from serval_serving.engines.shared_device import SharedDevice
from serval_serving.models.artifacts import artifact_signatures
from serval_serving.wire import messages
from serval_serving.wire.status import StatusError, invalid

ROWS_AT_ONCE: Final = 16
"""Rows that go through the parts together where the device takes any number: prepared photos are large."""
NO_ENGINE: Final = (
    "this is an artifact of an AcceleratedModel; name the engine of the device by --device_engine, such as"
    " --device_engine=emulator, which computes on the CPU"
)


@dataclass(frozen=True, slots=True)
class AcceleratedOptions:
    """How the engine works.

    Attributes
    ----------
    engine:
        Engine of the device, one of `serval_contract.devices.ENGINES`; empty for none.
    device:
        How the device is opened.
    threads:
        CPU threads of a host part and of a classifier; 0 for as many as they like.
    slots:
        Runs in progress at once.
    """

    engine: str
    device: DeviceSettings = field(default_factory=DeviceSettings)
    threads: int = 0
    slots: int = 1


class AcceleratedEngine:
    """Loads artifacts; the device is opened when the engine is made, and held until the process ends.

    Raises
    ------
    ModelLoadError
        There is no engine for the device, or the device cannot be opened.
    """

    name = "accelerated"

    def __init__(self, options: AcceleratedOptions) -> None:
        if not options.engine:
            raise ModelLoadError(grpc.StatusCode.FAILED_PRECONDITION, NO_ENGINE, permanent=True)
        self._options = options
        device = make_device(options.engine, options.device)
        device.open()
        self._shared = SharedDevice(device)
        self._slots = threading.Semaphore(options.slots)
        self._runtime: OnnxRuntime | None = None

    def devices(self) -> Sequence[str]:
        """Name the device."""
        return [self._shared.report(None).name]

    def load(self, path: Path) -> AcceleratedModel:
        """Check an artifact and prepare all of it but the device.

        Raises
        ------
        ModelLoadError
            It cannot be served; the text begins with a word of `serval_contract.devices.DEVICE_REASONS`.
        """
        conversion = checked_artifact(path)
        threads = self._options.threads
        classifier = None
        if conversion.classifier is not None:
            self._runtime = self._runtime or OnnxRuntime()
            classifier = self._runtime.open(path / conversion.classifier.file, threads)
        host = open_host(path, conversion.host, threads)
        return AcceleratedModel(path, conversion, host, classifier, self._shared, self._slots)


class AcceleratedModel:
    """One artifact."""

    def __init__(
        self,
        folder: Path,
        conversion: Conversion,
        host: HostPart,
        classifier: OnnxSession | None,
        shared: SharedDevice,
        slots: threading.Semaphore,
    ) -> None:
        self.slots = slots
        self._part = DevicePart(
            folder / conversion.device.file, conversion.device.inputs, conversion.device.outputs
        )
        self._conversion = conversion
        self._host = host
        self._classifier = classifier
        self._shared = shared
        self._definitions = defined(artifact_signatures(conversion)[DEFAULT_SIGNATURE])
        definition = self._definitions.signature_def[DEFAULT_SIGNATURE]
        self._signatures = {DEFAULT_SIGNATURE: signature_of(DEFAULT_SIGNATURE, definition)}
        self._batch = fixed_batch(conversion.device.inputs)
        every = (*conversion.inputs.values(), *conversion.outputs.values())
        self._in_rows = all(one.shape and one.shape[0] is None for one in every)

    @property
    def runtime(self) -> str:
        """The engine of the device, as the label `runtime` of the metrics says."""
        return f"accelerated-{self._shared.device.name}"

    @property
    def device(self) -> str:
        """What the device part runs on; `emulated` where there is no device."""
        return self._shared.device.computes_on

    @property
    def exclusive(self) -> Exclusive:
        """The device holds one model."""
        return self

    @property
    def signatures(self) -> Mapping[str, Signature]:
        """The only signature."""
        return self._signatures

    @property
    def signature_defs(self) -> messages.SignatureDefMap:
        """The signature as a SavedModel would declare it."""
        return self._definitions

    def program(self) -> None:
        """Put the device part onto the device; see `Exclusive.program`."""
        self._shared.program(self, self._part)

    def release(self) -> None:
        """Let another model have the device; see `Exclusive.release`."""
        self._shared.release(self)

    def report(self) -> DeviceReport:
        """Say how the device is; see `Exclusive.report`."""
        return self._shared.report(self)

    def check(
        self,
        signature: str,  # noqa: ARG002  there is only one
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str],  # noqa: ARG002  they have no part in it
        timeout: float | None,  # noqa: ARG002  it takes no time
    ) -> None:
        """Compare types, ranks and sizes with `conversion.json`; see `LoadedModel.check`."""
        for alias, one in self._conversion.inputs.items():
            check_shape(alias, inputs[alias], one)

    def run(
        self,
        signature: str,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str],
        timeout: float | None = None,
    ) -> list[np.ndarray]:
        """Run all parts in the calling thread; see `LoadedModel.run`.

        A device that takes a fixed number of rows gets that number, the last ones repeated.
        """
        end = None if timeout is None else time.monotonic() + timeout
        self.check(signature, inputs, outputs, timeout)
        tensors = {one.name: inputs[alias] for alias, one in self._conversion.inputs.items()}
        wanted = [self._conversion.outputs[alias].name for alias in outputs]
        pieces = []
        for piece, rows in self._pieces(tensors):
            made = self._run_piece(piece, rows, end)
            # The rest of a piece is freed before the next one is made.
            pieces.append([made[name] for name in wanted])
        return [parts[0] if len(parts) == 1 else np.concatenate(parts) for parts in zip(*pieces, strict=True)]

    def close(self) -> None:
        """Free the CPU's parts, and let another model have the device."""
        self.release()
        self._host.close()
        self._classifier = None

    def _pieces(self, tensors: Mapping[str, np.ndarray]) -> Iterator[tuple[Mapping[str, np.ndarray], int]]:
        """Cut the rows of a request into pieces; the number of rows of each is 0 for all at once."""
        if not self._in_rows:
            yield tensors, 0
            return
        counts = {len(array) for array in tensors.values()}
        if len(counts) > 1:
            raise invalid(f"the inputs have different numbers of rows: {', '.join(map(str, sorted(counts)))}")
        (count,) = counts
        if not count:
            raise invalid("the inputs have no rows")
        step = self._batch or ROWS_AT_ONCE
        for start in range(0, count, step):
            piece = {name: array[start : start + step] for name, array in tensors.items()}
            yield piece, min(step, count - start)

    def _run_piece(
        self, given: Mapping[str, np.ndarray], rows: int, end: float | None
    ) -> Mapping[str, np.ndarray]:
        """Run all parts on some rows; 0 for all at once."""
        tensors = dict(given)
        tensors.update(self._host.run(tensors, _left(end)))
        feeds = {}
        for one in self._part.inputs:
            array = tensors[one.name]
            fed = _filled(array, self._batch) if rows else array
            check_shape(one.name, fed, one)
            feeds[one.name] = fed
        made = self._shared.run(self, feeds, _left(end))
        tensors.update({name: array[:rows] if rows else array for name, array in made.items()})
        if self._classifier is not None and self._conversion.classifier is not None:
            names = [one.name for one in self._conversion.classifier.inputs]
            tensors.update(self._classifier.run({name: tensors[name] for name in names}, _left(end)))
        return tensors


def fixed_batch(inputs: Sequence[Tensor]) -> int:
    """Return the number of rows that a device takes at once; 0 for any number."""
    sizes = {one.shape[0] for one in inputs if one.shape}
    fixed = {size for size in sizes if size is not None}
    return min(fixed) if fixed else 0


def check_shape(name: str, array: np.ndarray, wanted: Tensor) -> None:
    """Check a tensor before a part gets it.

    Raises
    ------
    StatusError
        INVALID_ARGUMENT: it has another type, rank or size.
    """
    shape = wanted.shape
    if array.ndim != len(shape):
        raise invalid(f"Invalid rank for input: {name} Got: {array.ndim} Expected: {len(shape)}")
    if any(size not in (None, own) for size, own in zip(shape, array.shape, strict=True)):
        sizes = ",".join("?" if size is None else str(size) for size in shape)
        raise invalid(f"input {name} has shape {list(array.shape)}, and the model takes [{sizes}]")
    if wanted.dtype != STRING and array.dtype != np.dtype(wanted.dtype):
        raise invalid(f"input {name} is of type {array.dtype}, and the model takes {wanted.dtype}")


def _filled(array: np.ndarray, rows: int) -> np.ndarray:
    """Repeat the last row until there are as many as a device takes; 0 for any number."""
    lacking = rows - len(array)
    return array if lacking <= 0 else np.concatenate([array, np.repeat(array[-1:], lacking, axis=0)])


def _left(end: float | None) -> float | None:
    """Return the seconds until a moment; None for no limit.

    Raises
    ------
    StatusError
        DEADLINE_EXCEEDED: it has passed.
    """
    if end is None:
        return None
    left = end - time.monotonic()
    if left <= 0:
        raise StatusError(grpc.StatusCode.DEADLINE_EXCEEDED, TIMED_OUT)
    return left
