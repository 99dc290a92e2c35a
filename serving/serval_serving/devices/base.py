"""What the server asks of a device that holds one model, such as an FPGA."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import grpc
import numpy as np

from serval_contract.devices import DEVICE_UNUSABLE
from serval_serving.accel.artifact import Tensor
from serval_serving.engines.base import ModelLoadError

Progress = Callable[[float], None]
"""Takes the part of the work that is done, from 0 to 1."""
Arrays = Mapping[str, np.ndarray]
"""Tensors by name."""

Value = TypeVar("Value", str, int, float)


@dataclass(frozen=True, slots=True)
class DevicePart:
    """What a device is programmed with.

    Attributes
    ----------
    file:
        The ONNX model, or what another tool compiled.
    inputs, outputs:
        Its tensors, in the order of the file.
    """

    file: Path
    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]


@dataclass(frozen=True, slots=True)
class DeviceSettings:
    """How a device is opened.

    Attributes
    ----------
    options:
        Options of the engine.
    lock_dir:
        Folder that all containers of the node share, for locks; None for no locks.
    units:
        Ids of the units that the device plugin allocated.
    holder:
        Who this process is, for others that want the same unit.
    resource:
        Name of the extended resource that the pod holds; empty where that is not known.
    allow_emulation:
        Whether the emulator may hold a resource of a real card.
    threads:
        CPU threads of an engine that computes on the CPU; 0 for as many as it likes.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    lock_dir: Path | None = None
    units: tuple[str, ...] = ()
    holder: str = ""
    resource: str = ""
    allow_emulation: bool = False
    threads: int = 0


class Device(Protocol):
    """A device. `open` comes first, then `program`, and `run` only after it; `close` comes last.

    `run` may be called from many threads, but not while `program` or `close` is called.

    Attributes
    ----------
    name:
        Of the engine, one of `serval_contract.devices.ENGINES`.
    emulated:
        Whether no hardware is behind it.
    """

    name: str
    emulated: bool

    @property
    def computes_on(self) -> str:
        """What it computes on, as the label `device` of the metrics says."""

    def open(self) -> None:
        """Take the device for this process.

        Raises
        ------
        ModelLoadError
            It is not there, or another process holds it.
        """

    def program(self, part: DevicePart, progress: Progress) -> None:
        """Put a model onto the device, in place of an earlier one.

        Raises
        ------
        ModelLoadError
            The device does not take it.
        """

    def run(self, feeds: Arrays, timeout: float | None = None) -> dict[str, np.ndarray]:
        """Run the model on one batch.

        Parameters
        ----------
        feeds:
            Every input of the part. Types and shapes were checked.
        timeout:
            Seconds after which no one waits for the answer; None for no limit.

        Raises
        ------
        StatusError
            The device failed, or was not done in time.
        """

    def health(self) -> str:
        """Say why the device is unhealthy; empty if it is healthy."""

    def close(self) -> None:
        """Give the device back."""


class Options:
    """Options of an engine, from JSON. Each is taken once; those that are left are unknown.

    Parameters
    ----------
    engine:
        Name of the engine, for messages.
    given:
        The JSON object.
    """

    def __init__(self, engine: str, given: Mapping[str, Any]) -> None:
        self._engine = engine
        self._left = dict(given)

    def take(self, name: str, default: Value) -> Value:
        """Return an option of the type of its default; integers are numbers too.

        Raises
        ------
        ModelLoadError
            It has another type, or is a number below 0 or without end.
        """
        value = self._left.pop(name, default)
        if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value) is not type(default) or (not isinstance(value, str) and not 0 <= value < math.inf):
            kind = {str: "text", int: "a whole number", float: "a number"}[type(default)]
            raise self._refusal(f"option {name} must be {kind}, not {value!r}")
        return value

    def take_texts(self, name: str) -> dict[str, str]:
        """Return an option that is an object of texts.

        Raises
        ------
        ModelLoadError
            It is none.
        """
        value = self._left.pop(name, {})
        if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
            raise self._refusal(f"option {name} must be an object of texts, not {value!r}")
        return value

    def finish(self) -> None:
        """Refuse options that the engine does not have.

        Raises
        ------
        ModelLoadError
            There is one.
        """
        if self._left:
            raise self._refusal(f"there is no option {', '.join(sorted(self._left))}")

    def _refusal(self, words: str) -> ModelLoadError:
        message = f"{DEVICE_UNUSABLE}: --device_options of engine {self._engine}: {words}"
        return ModelLoadError(grpc.StatusCode.INVALID_ARGUMENT, message, permanent=True)


def unusable(
    words: str, code: grpc.StatusCode = grpc.StatusCode.FAILED_PRECONDITION, *, permanent: bool = True
) -> ModelLoadError:
    """Make the error for a device that cannot be opened or programmed."""
    return ModelLoadError(code, f"{DEVICE_UNUSABLE}: {words}", permanent=permanent)
