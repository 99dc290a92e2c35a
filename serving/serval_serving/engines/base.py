"""What the server asks of an engine, in its own words: signatures, arrays and a status when it fails."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import grpc
import numpy as np

from serval_serving.wire import messages
from serval_serving.wire.status import StatusError
from serval_serving.wire.tensors import to_array

CPU = "CPU"
"""The device of a model that runs on no accelerator."""

DEFAULT_SIGNATURE = "serving_default"
PREDICT_METHOD = "tensorflow/serving/predict"
CLASSIFY_METHOD = "tensorflow/serving/classify"
REGRESS_METHOD = "tensorflow/serving/regress"
TIMED_OUT = "Timed out waiting for notification"
"""TensorFlow's words for a run that was not done in time."""

Shape = tuple[int | None, ...] | None
"""Dimensions of a tensor: None for one that may be of any size, and for a rank that may be any."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a signature.

    Attributes
    ----------
    name:
        The tensor's name in the graph, such as `images:0`. Empty where several tensors make it up.
    dtype:
        A value of `serval_serving.wire.dtypes.DataType`.
    shape:
        What a request's tensor must fit.
    """

    name: str
    dtype: int
    shape: Shape


@dataclass(frozen=True, slots=True)
class Signature:
    """One way to call a model.

    Attributes
    ----------
    name:
        Its name.
    inputs, outputs:
        The tensors by alias, in alphabetical order.
    defaults:
        Values of inputs that a request may leave out.
    method:
        What it is for: `PREDICT_METHOD`, `CLASSIFY_METHOD`, `REGRESS_METHOD` or anything else.
    """

    name: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    defaults: Mapping[str, np.ndarray]
    method: str = PREDICT_METHOD


class ModelLoadError(StatusError):
    """A model version cannot be served.

    Parameters
    ----------
    code, message:
        As of any status.
    permanent:
        True where the files themselves are at fault, so that loading them again cannot help.
    """

    def __init__(self, code: grpc.StatusCode, message: str, *, permanent: bool) -> None:
        super().__init__(code, message)
        self.permanent = permanent


@dataclass(frozen=True, slots=True)
class DeviceReport:
    """What the operator knows of a device that holds one model.

    Attributes
    ----------
    engine:
        What programs and runs it, one of `serval_contract.devices.ENGINES`.
    computes_on:
        As `LoadedModel.device`.
    emulated:
        Whether no hardware is behind it.
    programmed:
        The part of its programming that is done; 1 when the model can run.
    fault:
        Why the device is unhealthy; empty while it is healthy.
    """

    engine: str
    computes_on: str
    emulated: bool
    programmed: float
    fault: str

    @property
    def obstacle(self) -> str:
        """Why the model cannot run now; empty if it can."""
        if self.fault:
            return f"the device is unhealthy: {self.fault}"
        return "" if self.programmed >= 1 else f"programming the device: {int(100 * self.programmed)} %"

    @property
    def name(self) -> str:
        """The engine, and whether it emulates, for people."""
        return f"{self.engine} (emulated)" if self.emulated else self.engine


class Exclusive(Protocol):
    """The device of a model that needs one for itself."""

    def program(self) -> None:
        """Put the model onto the device. No other model may be in use there.

        Raises
        ------
        ModelLoadError
            The device does not take it.
        """

    def release(self) -> None:
        """Let another model have the device. Runs of this one fail from now on."""

    def report(self) -> DeviceReport:
        """Say how the device is. Returns at once."""


class LoadedModel(Protocol):
    """One version in memory. Its methods may be called from many threads at once."""

    @property
    def exclusive(self) -> Exclusive | None:
        """The device that holds this model and no other; the model runs once it is programmed.

        None for a model that runs as soon as it is loaded.
        """

    @property
    def runtime(self) -> str:
        """What runs it, as the label `runtime` of the metrics says."""

    @property
    def device(self) -> str:
        """What it really runs on, such as `GPU` or `CPU`; empty where only its first run will tell."""

    @property
    def slots(self) -> threading.Semaphore:
        """Limits how many runs are in progress at once.

        Engines decide which of their models share it: usually all, since they compete for the same device.
        """

    @property
    def signatures(self) -> Mapping[str, Signature]:
        """The signatures by name."""

    @property
    def signature_defs(self) -> messages.SignatureDefMap:
        """The same as the model's files declare them, for GetModelMetadata."""

    def check(
        self, signature: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str], timeout: float | None
    ) -> None:
        """Refuse inputs of shapes that the model does not take, if that is known without a run.

        It takes no slot and may wait, for at most `timeout` seconds. `run` refuses the same shapes, so that
        nothing depends on this call.

        Raises
        ------
        StatusError
            INVALID_ARGUMENT, or RESOURCE_EXHAUSTED if too many shapes are asked about.
        """

    def run(
        self,
        signature: str,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str],
        timeout: float | None = None,
    ) -> list[np.ndarray]:
        """Run one signature.

        Parameters
        ----------
        signature:
            A key of `signatures`.
        inputs:
            Every input of the signature by alias. Their types were checked; their shapes are the engine's
            to check, since what differs from the signature need not be wrong.
        outputs:
            Aliases, each at most once; the answer is in this order.
        timeout:
            Seconds after which no one waits for the answer any more; None for no limit.

        Raises
        ------
        StatusError
            The engine refused the inputs, failed, or was not done in time.
        """

    def close(self) -> None:
        """Free what the model holds. No one runs it any more."""


class Loader(Protocol):
    """Loads models."""

    def load(self, path: Path) -> LoadedModel:
        """Load one version's folder.

        Raises
        ------
        ModelLoadError
            It cannot be served.
        """


class Engine(Loader, Protocol):
    """Loads models of one format onto the devices of this process."""

    @property
    def name(self) -> str:
        """What the log calls it."""

    def devices(self) -> Sequence[str]:
        """Name the devices that models run on, the preferred one first, such as `GPU` and `CPU`."""


def signature_of(name: str, definition: messages.SignatureDef) -> Signature:
    """Read a signature from its definition.

    Raises
    ------
    TensorError
        A default value cannot be read.
    """
    return Signature(
        name=name,
        inputs={alias: _spec(definition.inputs[alias]) for alias in sorted(definition.inputs)},
        outputs={alias: _spec(definition.outputs[alias]) for alias in sorted(definition.outputs)},
        defaults={alias: to_array(definition.defaults[alias]) for alias in sorted(definition.defaults)},
        method=definition.method_name,
    )


def merge_shapes(first: Shape, second: Shape) -> Shape:
    """Take what both shapes say; where they contradict each other the first holds."""
    if first is None or second is None or len(first) != len(second):
        return second if first is None else first
    return tuple(b if a is None else a for a, b in zip(first, second, strict=True))


def _spec(info: messages.TensorInfo) -> TensorSpec:
    """Read one input or output."""
    shape = info.tensor_shape
    # A signature without a shape says nothing about the rank, unless it is the empty shape of a scalar.
    unknown = shape.unknown_rank or not info.HasField("tensor_shape")
    dims = None if unknown else tuple(dim.size if dim.size >= 0 else None for dim in shape.dim)
    return TensorSpec(name=info.name, dtype=info.dtype, shape=dims)
