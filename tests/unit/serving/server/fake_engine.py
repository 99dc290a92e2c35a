"""An engine without TensorFlow. A version's folder holds `fake.json`, which says how it behaves."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from serval_serving.engines.base import DeviceReport, Exclusive, ModelLoadError, Signature, TensorSpec
from serval_serving.wire import messages
from serval_serving.wire.dtypes import DataType
from serval_serving.wire.status import StatusError

FILE = "fake.json"


def write_version(base: Path, version: int, **behavior: Any) -> Path:
    """Make a version's folder. Behavior: `factor`, `run_seconds`, `load_seconds`, `fail`, `crash`, `raises`.

    `permanent` false makes a failure one that may pass. It appears at once, as a finished copy does.
    """
    base.mkdir(parents=True, exist_ok=True)
    made = base / f"tmp-{version}"
    made.mkdir()
    (made / FILE).write_text(json.dumps({"factor": float(version), **behavior}))
    return made.rename(base / str(version))


class FakeModel:
    """y = x * factor, after `run_seconds`."""

    runtime = "fake"
    device = "CPU"
    exclusive: Exclusive | None = None

    def __init__(self, behavior: Mapping[str, Any], slots: threading.Semaphore | None = None) -> None:
        self._behavior = behavior
        self.slots = slots or threading.Semaphore(1)
        self.closed = False
        self.on_check: Callable[[], object] = lambda: None
        x = TensorSpec("x:0", DataType.DT_FLOAT, (None,))
        y = TensorSpec("y:0", DataType.DT_FLOAT, (None,))
        self._signatures = {"serving_default": Signature("serving_default", {"x": x}, {"y": y}, {})}

    @property
    def signatures(self) -> Mapping[str, Signature]:
        return self._signatures

    @property
    def signature_defs(self) -> messages.SignatureDefMap:
        definitions = messages.SignatureDefMap()
        definition = definitions.signature_def["serving_default"]
        for tensor, name in ((definition.inputs["x"], "x:0"), (definition.outputs["y"], "y:0")):
            tensor.name, tensor.dtype = name, DataType.DT_FLOAT
            tensor.tensor_shape.dim.add(size=-1)
        return definitions

    def check(
        self,
        signature: str,  # noqa: ARG002
        inputs: Mapping[str, np.ndarray],  # noqa: ARG002
        outputs: Sequence[str],  # noqa: ARG002
        timeout: float | None,  # noqa: ARG002
    ) -> None:
        self.on_check()

    def run(
        self,
        signature: str,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str],
        timeout: float | None = None,
    ) -> list[np.ndarray]:
        assert not self.closed, "a closed model was run"
        assert signature == "serving_default"
        seconds = self._behavior.get("run_seconds", 0)
        if timeout is not None and timeout < seconds:
            time.sleep(max(0.0, timeout))
            raise StatusError(grpc.StatusCode.DEADLINE_EXCEEDED, "Timed out waiting for notification")
        time.sleep(seconds)
        if "raises" in self._behavior:
            raise StatusError(grpc.StatusCode.INTERNAL, self._behavior["raises"])
        return [inputs["x"] * np.float32(self._behavior["factor"]) for _ in outputs]

    def close(self) -> None:
        self.closed = True


class FakeDevice:
    """The device of one model, which notes what happens. Programming runs `during`."""

    def __init__(self, name: str, said: list[str]) -> None:
        self._name, self._said = name, said
        self.programmed = 0.0
        self.fault = ""
        self.during: Callable[[], None] = lambda: None

    def program(self) -> None:
        self._said.append(f"program {self._name}")
        self.programmed = 0.4
        self.during()
        self.programmed = 1.0

    def release(self) -> None:
        self._said.append(f"release {self._name}")

    def report(self) -> DeviceReport:
        return DeviceReport("fake", "fake", True, self.programmed, self.fault)


class FakeEngine:
    """Loads such folders."""

    name = "fake"

    def __init__(self, slots: int = 1) -> None:
        self._slots = threading.Semaphore(slots)
        self.loads: list[Path] = []
        self.models: dict[int, FakeModel] = {}

    def devices(self) -> Sequence[str]:
        return ["CPU:0"]

    def load(self, path: Path) -> FakeModel:
        self.loads.append(path)
        behavior = json.loads((path / FILE).read_text())
        time.sleep(behavior.get("load_seconds", 0))
        if "crash" in behavior:
            raise RuntimeError(behavior["crash"])
        if "fail" in behavior:
            permanent = behavior.get("permanent", True)
            raise ModelLoadError(grpc.StatusCode.NOT_FOUND, behavior["fail"], permanent=permanent)
        model = FakeModel(behavior, self._slots)
        self.models[int(path.name)] = model
        return model
