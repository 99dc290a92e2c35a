"""Sessions of ONNX Runtime: how they are opened and run, and what their errors mean to a caller.

The module of ONNX Runtime is imported when an engine is made, so that a server of SavedModels does without.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from serval_serving.engines.base import TIMED_OUT, ModelLoadError
from serval_serving.engines.deadlines import DeadlineWatch
from serval_serving.wire.status import StatusError

NO_TELEMETRY = "ORT_DISABLE_TELEMETRY"
"""Without this in the environment the published builds write to the home directory and call their maker."""

_LOG_ERRORS = 3
_LOG_NOTHING = 4

# By name: the classes have nothing in common but that they are exceptions.
_CODES = {
    "InvalidArgument": grpc.StatusCode.INVALID_ARGUMENT,
    "InvalidProtobuf": grpc.StatusCode.INVALID_ARGUMENT,
    "InvalidGraph": grpc.StatusCode.INVALID_ARGUMENT,
    "NoModel": grpc.StatusCode.INVALID_ARGUMENT,
    # What operators say of tensors that do not fit them; TensorFlow has INVALID_ARGUMENT for it too.
    "Fail": grpc.StatusCode.INVALID_ARGUMENT,
    "RuntimeException": grpc.StatusCode.INVALID_ARGUMENT,
    # What an error quotes of a damaged file is no text.
    "UnicodeDecodeError": grpc.StatusCode.INVALID_ARGUMENT,
    "NoSuchFile": grpc.StatusCode.NOT_FOUND,
    "NotImplemented": grpc.StatusCode.UNIMPLEMENTED,
    "MemoryError": grpc.StatusCode.RESOURCE_EXHAUSTED,
}
_NO_MEMORY = re.compile(r"bad_alloc|[Ff]ailed to allocate|out of memory")
_DEVICE_FAILED = re.compile(r"(CUDA|CUDNN|CUBLAS|CUFFT)\w* failure")
_PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
_PERMANENT = frozenset(
    {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED}
)


def import_runtime() -> Any:
    """Import the module of ONNX Runtime.

    Raises
    ------
    ImportError
        It is not installed.
    """
    os.environ.setdefault(NO_TELEMETRY, "1")
    import onnxruntime  # noqa: PLC0415  only the process that serves with it pays

    return onnxruntime


def session_options(runtime: Any, intra_op_threads: int = 0, inter_op_threads: int = 0) -> Any:
    """Make the options of a session.

    Parameters
    ----------
    runtime:
        The module of ONNX Runtime.
    intra_op_threads:
        Threads within an operator; 0 lets ONNX Runtime choose.
    inter_op_threads:
        Operators that run at once; 0 or 1 for one after the other.
    """
    options = runtime.SessionOptions()
    options.log_severity_level = _LOG_ERRORS
    options.intra_op_num_threads = intra_op_threads
    options.inter_op_num_threads = inter_op_threads
    if inter_op_threads > 1:
        options.execution_mode = runtime.ExecutionMode.ORT_PARALLEL
    # Threads that wait would otherwise turn in circles, on CPUs that other pods need.
    for pool in ("intra_op", "inter_op"):
        options.add_session_config_entry(f"session.{pool}.allow_spinning", "0")
    return options


def run_session(
    runtime: Any,
    session: Any,
    watch: DeadlineWatch,
    outputs: Sequence[str] | None,
    feeds: Mapping[str, np.ndarray],
    timeout: float | None,
) -> list[np.ndarray]:
    """Run a session in the calling thread. A late run ends after an operator.

    Parameters
    ----------
    watch:
        Ends runs that are late.
    outputs:
        Names of outputs; None for all.
    timeout:
        Seconds after which no one waits for the answer; None for no limit.

    Raises
    ------
    StatusError
        ONNX Runtime refused the inputs, failed, or was not done in time.
    """
    options = runtime.RunOptions()
    # A refused request would leave lines of the runtime's own in the log.
    options.log_severity_level = _LOG_NOTHING

    def stop() -> None:
        options.terminate = True

    try:
        with watch.limit(timeout, stop):
            results = session.run(None if outputs is None else list(outputs), dict(feeds), options)
    except Exception as error:
        if options.terminate:
            raise StatusError(grpc.StatusCode.DEADLINE_EXCEEDED, TIMED_OUT) from error
        raise StatusError(*status_of(error)) from error
    return [_given(result) for result in results]


def status_of(error: Exception) -> tuple[grpc.StatusCode, str]:
    """Say what an error of ONNX Runtime means to the caller."""
    message = _PREFIX.sub("", str(error)) or type(error).__name__
    if _NO_MEMORY.search(message):
        return grpc.StatusCode.RESOURCE_EXHAUSTED, message
    if _DEVICE_FAILED.search(message):
        return grpc.StatusCode.INTERNAL, message
    return _CODES.get(type(error).__name__, grpc.StatusCode.INTERNAL), message


def load_error(error: Exception) -> ModelLoadError:
    """Say what an error of ONNX Runtime means for a load."""
    code, message = status_of(error)
    return ModelLoadError(code, message, permanent=code in _PERMANENT)


class OnnxSession:
    """An ONNX model in a session, with tensors by name.

    Parameters
    ----------
    runtime:
        The module of ONNX Runtime.
    session:
        The session.
    watch:
        Ends runs that are late.
    """

    def __init__(self, runtime: Any, session: Any, watch: DeadlineWatch) -> None:
        self._runtime = runtime
        self._session = session
        self._watch = watch
        self._outputs = tuple(one.name for one in session.get_outputs())

    def run(self, feeds: Mapping[str, np.ndarray], timeout: float | None = None) -> dict[str, np.ndarray]:
        """Return all outputs by name; see `run_session`."""
        results = run_session(self._runtime, self._session, self._watch, self._outputs, feeds, timeout)
        return dict(zip(self._outputs, results, strict=True))


class OnnxRuntime:
    """Opens sessions on the CPU.

    Raises
    ------
    ImportError
        ONNX Runtime is not installed.
    """

    def __init__(self) -> None:
        self._runtime = import_runtime()
        self._watch = DeadlineWatch()

    def open(self, file: Path, threads: int = 0) -> OnnxSession:
        """Open a model with that many threads within an operator; 0 lets ONNX Runtime choose.

        Raises
        ------
        ModelLoadError
            ONNX Runtime does not take it.
        """
        options = session_options(self._runtime, threads)
        providers = ["CPUExecutionProvider"]
        try:
            session = self._runtime.InferenceSession(str(file), options, providers=providers)
        except Exception as error:
            raise load_error(error) from error
        return OnnxSession(self._runtime, session, self._watch)


def _given(result: Any) -> np.ndarray:
    """Turn text into bytes, as strings are outside of this engine."""
    array = np.asarray(result)
    if array.dtype.kind in "iu":
        # C has two names for an integer of 64 bits, and orjson knows numpy's arrays of only one of them.
        return array.view(np.dtype(array.dtype.name))
    if array.dtype.kind not in "OU":
        return array
    return np.array([text.encode() for text in array.ravel().tolist()], dtype=object).reshape(array.shape)
