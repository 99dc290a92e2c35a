"""ONNX Runtime.

Inputs and outputs are those that the model's file declares: ONNX Runtime itself gives the same empty shape
for a scalar and for a rank that may be any. It is imported when the engine is made, so that a server of
SavedModels does without.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from serval_serving.engines.base import (
    DEFAULT_SIGNATURE,
    ModelLoadError,
    Signature,
    signature_of,
)
from serval_serving.engines.deadlines import DeadlineWatch
from serval_serving.engines.declared import defined
from serval_serving.engines.onnx_session import (
    import_runtime,
    load_error,
    run_session,
    session_options,
    status_of,
)
from serval_serving.engines.providers import (
    BY_ITSELF,
    CPU,
    CUDA,
    RECORD,
    Provider,
    first_with_work,
    load_cuda,
    parse,
    shares,
    unknown,
)
from serval_serving.models.onnxmodel import ONNX_FILE, onnx_file, read_onnx_signature
from serval_serving.models.savedmodel import ModelInvalid
from serval_serving.models.savedmodel import Signature as Declared
from serval_serving.wire import messages
from serval_serving.wire.status import invalid

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OnnxOptions:
    """How sessions are made.

    Attributes
    ----------
    providers:
        What runs the operators, the preferred one first, such as ("CUDA", "CPU"), or ("OpenVINO:GPU",); empty
        for what this build of ONNX Runtime has of `providers.BY_ITSELF`. Without "CPU" a model is not served
        on the CPU instead of what was asked for.
    intra_op_threads:
        Threads within an operator; 0 lets ONNX Runtime choose.
    inter_op_threads:
        Operators that run at once; 0 or 1 for one after the other.
    slots:
        Runs in progress at once, of all models together.
    """

    providers: tuple[str, ...] = ()
    intra_op_threads: int = 0
    inter_op_threads: int = 0
    slots: int = 1


class OnnxEngine:
    """Loads ONNX models into sessions of their own.

    Raises
    ------
    ImportError
        ONNX Runtime is not installed.
    ModelLoadError
        The options name a provider that there is none of.
    """

    name = "onnxruntime"

    def __init__(self, options: OnnxOptions) -> None:
        self._runtime: Any = import_runtime()
        self._options = options
        self._available: list[str] = self._runtime.get_available_providers()
        self._wanted = self._providers(options.providers)
        if any(one.name == CUDA and one.full in self._available for one in self._wanted):
            load_cuda(self._runtime)
        self._watch = DeadlineWatch()
        self._slots = threading.Semaphore(options.slots)

    def devices(self) -> Sequence[str]:
        """Name what this build of ONNX Runtime can run models on, as far as it was asked for."""
        return [str(one) for one in self._wanted if one.full in self._available]

    def load(self, path: Path) -> OnnxSessionModel:
        """Load one ONNX model.

        Raises
        ------
        ModelLoadError
            The folder holds no model, one that ONNX Runtime cannot load, or there is no wanted device.
        """
        try:
            file = onnx_file(path) or path / ONNX_FILE
            declared = read_onnx_signature(file).signatures[DEFAULT_SIGNATURE]
        except (ModelInvalid, OSError) as error:
            message = f"Cannot load the ONNX model in {path}: {error}"
            raise ModelLoadError(grpc.StatusCode.INVALID_ARGUMENT, message, permanent=True) from error
        try:
            session, provider = self._opened(file)
        except ModelLoadError:
            raise
        except Exception as error:
            raise load_error(error) from error
        return OnnxSessionModel(self._runtime, session, provider, declared, self._watch, self._slots)

    def _providers(self, names: Sequence[str]) -> list[Provider]:
        """Read the wanted providers."""
        if not names:
            return [one for one in BY_ITSELF if one.full in self._available]
        known = self._runtime.get_all_providers()
        found: list[Provider] = []
        for name in names:
            provider = parse(name, known)
            if provider is None:
                raise ModelLoadError(grpc.StatusCode.INVALID_ARGUMENT, unknown(name, known), permanent=True)
            found.append(provider)
        return found

    def _opened(self, file: Path) -> tuple[Any, Provider]:
        """Open a session on the preferred provider, or on the CPU where that is allowed, and say so."""
        wanted = self._wanted[0]
        usable = [one for one in self._wanted if one.full in self._available]
        if not usable:
            raise _no_device(wanted, "this build of ONNX Runtime has no such provider", permanent=True)
        try:
            session = self._session(file, usable)
        except Exception as error:
            if CPU not in usable[1:]:
                raise
            # A bad model fails again below; a device that failed must not take the model down.
            _log.warning("%s failed: %s", usable[0], status_of(error)[1])
            session = self._session(file, [CPU])
        taken = shares(session)
        actual = first_with_work(usable, taken)
        if actual != wanted:
            if CPU not in self._wanted:
                raise _no_device(wanted, "it runs no operator of the model; its log may say why")
            _log.warning("%s was asked for, and the model runs on %s", wanted, actual)
        _log.info("path=%s runs on %s: %d of %d operators", file, actual, taken[actual.full], taken.total())
        return session, actual

    def _session(self, file: Path, providers: list[Provider]) -> Any:
        """Open a session."""
        options = session_options(
            self._runtime, self._options.intra_op_threads, self._options.inter_op_threads
        )
        options.add_session_config_entry(*RECORD)
        entries = [(one.full, one.options(self._options.intra_op_threads)) for one in providers]
        return self._runtime.InferenceSession(str(file), options, providers=entries, enable_fallback=False)


class OnnxSessionModel:
    """One ONNX model in a session.

    Attributes
    ----------
    device:
        What the model runs on: `CUDA`, `CPU`.
    runtime:
        What runs it, as the metrics say it: `ONNX-CUDA`, `ONNX-OpenVINO`.
    slots:
        Limits the runs of all models of the engine.
    """

    def __init__(
        self,
        runtime: Any,
        session: Any,
        provider: Provider,
        declared: Declared,
        watch: DeadlineWatch,
        slots: threading.Semaphore,
    ) -> None:
        self._runtime = runtime
        self._session = session
        self._watch = watch
        self.exclusive = None
        self.slots = slots
        self.device = provider.device
        self.runtime = f"ONNX-{provider}"
        self._definitions = defined(declared)
        definition = self._definitions.signature_def[DEFAULT_SIGNATURE]
        self._signatures = {DEFAULT_SIGNATURE: signature_of(DEFAULT_SIGNATURE, definition)}
        inputs = self._signatures[DEFAULT_SIGNATURE].inputs
        self._scalars = tuple(alias for alias, spec in inputs.items() if spec.shape == ())

    @property
    def signatures(self) -> Mapping[str, Signature]:
        """The only signature."""
        return self._signatures

    @property
    def signature_defs(self) -> messages.SignatureDefMap:
        """The signature as a SavedModel would declare it."""
        return self._definitions

    def check(
        self, signature: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str], timeout: float | None
    ) -> None:
        """Refuse nothing: a run compares shapes before any operator runs."""

    def run(
        self,
        signature: str,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str],
        timeout: float | None = None,
    ) -> list[np.ndarray]:
        """Run the model in the calling thread; see `LoadedModel.run`. A late run ends after an operator.

        The ranks and sizes that the file declares are part of an ONNX model, and ONNX Runtime refuses others.
        It does not compare scalars, because it cannot tell them from an open rank; they are compared here.
        """
        specs = self._signatures[signature].inputs
        for alias in self._scalars:
            if rank := inputs[alias].ndim:
                raise invalid(f"Invalid rank for input: {alias} Got: {rank} Expected: 0")
        feeds = {alias: _fed(alias, inputs[alias]) for alias in specs}
        return run_session(self._runtime, self._session, self._watch, outputs, feeds, timeout)

    def close(self) -> None:
        """Drop the session."""
        self._session = None


def _fed(alias: str, array: np.ndarray) -> np.ndarray:
    """Turn strings, which are bytes here, into the text that ONNX's strings are.

    ONNX Runtime would take an object of bytes for its Python spelling, `b'...'`.
    """
    if array.dtype.kind not in "OS":
        return array
    try:
        text = [value.decode() if isinstance(value, bytes) else value for value in array.ravel().tolist()]
    except UnicodeDecodeError as error:
        raise invalid(f"input {alias} holds a string that is not UTF-8; ONNX has no other") from error
    return np.array(text, dtype=object).reshape(array.shape)


def _no_device(wanted: Provider, why: str, *, permanent: bool = False) -> ModelLoadError:
    """Make the error for a device that was asked for, and no other allowed."""
    message = f"ONNX Runtime cannot use {wanted}: {why}"
    return ModelLoadError(grpc.StatusCode.UNAVAILABLE, message, permanent=permanent)
