"""TensorFlow, through the session loader of TensorFlow 1.

It loads SavedModels of TensorFlow 1 and 2 alike and runs them through the same C++ session as TensorFlow
Serving does; `tf.saved_model.load` refuses some that the former can. TensorFlow is imported when the engine
is made, since that takes seconds and half a gigabyte.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from serval_serving.engines.base import (
    ModelLoadError,
    Signature,
    TensorSpec,
    merge_shapes,
    signature_of,
)
from serval_serving.wire import messages
from serval_serving.wire.errors import TensorError
from serval_serving.wire.status import StatusError, code_of

NO_SAVED_MODEL = "Could not find SavedModel .pb or .pbtxt at supplied export directory path: {path}"

_FILES = ("saved_model.pb", "saved_model.pbtxt")
_MAX_CALLABLES = 64
_TRANSIENT = frozenset(
    {
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,  # CUDA initialisation reports itself so
    }
)


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """How sessions are made.

    Attributes
    ----------
    tags:
        The tags of the meta graph to load.
    intra_op_threads, inter_op_threads:
        Sizes of TensorFlow's two thread pools; 0 lets TensorFlow choose.
    gpu_memory_fraction:
        The most that a process may take of a GPU's memory, 0 for no limit. Memory is taken as needed.
    """

    tags: tuple[str, ...] = ("serve",)
    intra_op_threads: int = 0
    inter_op_threads: int = 0
    gpu_memory_fraction: float = 0.0


class TensorFlowEngine:
    """Loads SavedModels into sessions of their own."""

    name = "tensorflow"

    def __init__(self, options: SessionOptions) -> None:
        # Without this each refused request would leave lines of the runtime's own in the log.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        import tensorflow as tf  # noqa: PLC0415  takes seconds; only the process that serves with it pays
        from tensorflow.core.protobuf import config_pb2  # noqa: PLC0415  the same

        tf.get_logger().setLevel("ERROR")
        self._callable_options: Any = config_pb2.CallableOptions
        self._tf: Any = tf
        self._options = options

    def devices(self) -> Sequence[str]:
        """Name the devices that TensorFlow sees, GPUs first."""
        names = [device.name for device in self._tf.config.list_physical_devices()]
        kinds = [name.removeprefix("/physical_device:") for name in names]
        return sorted(kinds, key=lambda kind: (kind.startswith("CPU"), kind))

    def load(self, path: Path) -> TensorFlowModel:
        """Load one SavedModel.

        Raises
        ------
        ModelLoadError
            The folder holds no SavedModel, or one that TensorFlow cannot load.
        """
        if not any((path / name).is_file() for name in _FILES):
            raise ModelLoadError(grpc.StatusCode.NOT_FOUND, NO_SAVED_MODEL.format(path=path), permanent=True)
        tf1 = self._tf.compat.v1
        graph = self._tf.Graph()
        session = tf1.Session(graph=graph, config=self._config())
        try:
            with graph.as_default():
                meta_graph = tf1.saved_model.loader.load(session, list(self._options.tags), str(path))
            return TensorFlowModel(self._tf, self._callable_options, session, meta_graph)
        except Exception as error:
            session.close()
            raise _load_error(self._tf, error) from error

    def _config(self) -> Any:
        """Make a session's configuration."""
        options = self._options
        gpu = self._tf.compat.v1.GPUOptions(
            allow_growth=True, per_process_gpu_memory_fraction=options.gpu_memory_fraction
        )
        return self._tf.compat.v1.ConfigProto(
            gpu_options=gpu,
            allow_soft_placement=True,
            intra_op_parallelism_threads=options.intra_op_threads,
            inter_op_parallelism_threads=options.inter_op_threads,
        )


class TensorFlowModel:
    """One SavedModel in a session."""

    def __init__(self, tensorflow: Any, callable_options: Any, session: Any, meta_graph: Any) -> None:
        self._tf = tensorflow
        self._callable_options = callable_options
        self._session = session
        self._definitions = messages.SignatureDefMap()
        for name, definition in meta_graph.signature_def.items():
            # TensorFlow's own message class comes from another pool: the bytes are what they share.
            self._definitions.signature_def[name].MergeFromString(definition.SerializeToString())
        self._signatures = {
            name: self._signature(name, self._definitions.signature_def[name])
            for name in sorted(self._definitions.signature_def)
        }
        self._callables: OrderedDict[tuple[str, tuple[str, ...]], Callable[..., Any]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def signatures(self) -> Mapping[str, Signature]:
        """The signatures by name."""
        return self._signatures

    @property
    def signature_defs(self) -> messages.SignatureDefMap:
        """The signatures as the SavedModel declares them."""
        return self._definitions

    def run(
        self, signature: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]
    ) -> list[np.ndarray]:
        """Run one signature in the calling thread; see `LoadedModel.run`."""
        specs = self._signatures[signature]
        fetches = tuple(sorted({specs.outputs[alias].name for alias in outputs}))
        feeds = {specs.inputs[alias].name: inputs[alias] for alias in specs.inputs}
        try:
            results = self._callable(signature, tuple(feeds), fetches)(*feeds.values())
        except self._tf.errors.OpError as error:
            raise StatusError(code_of(error.error_code), str(error.message)) from error
        except (TypeError, ValueError) as error:
            raise StatusError(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from error
        by_name = dict(zip(fetches, results, strict=True))
        return [np.asarray(by_name[specs.outputs[alias].name]) for alias in outputs]

    def close(self) -> None:
        """Close the session."""
        self._callables.clear()
        self._session.close()

    def _signature(self, name: str, definition: messages.SignatureDef) -> Signature:
        """Read a signature, narrowing the shapes of its inputs by those of the graph's placeholders."""
        signature = signature_of(name, definition)
        inputs = {alias: self._narrowed(spec) for alias, spec in signature.inputs.items()}
        return Signature(name, inputs, signature.outputs, signature.defaults)

    def _narrowed(self, spec: TensorSpec) -> TensorSpec:
        """Add what the graph knows of an input's shape."""
        if not spec.name:
            return spec
        shape = self._session.graph.get_tensor_by_name(spec.name).shape
        known = tuple(shape.as_list()) if shape.rank is not None else None
        return TensorSpec(spec.name, spec.dtype, merge_shapes(spec.shape, known))

    def _callable(
        self, signature: str, feeds: tuple[str, ...], fetches: tuple[str, ...]
    ) -> Callable[..., Any]:
        """Find or make the callable of a signature and a set of outputs.

        A callable costs 19 us a call where `Session.run` takes 93 us, and it does not copy its inputs
        (measured with a model of two operations). Callers choose the outputs, so the number kept is bounded.
        """
        key = (signature, fetches)
        with self._lock:
            found = self._callables.get(key)
            if found is None:
                options = self._callable_options(feed=feeds, fetch=fetches)
                # The public make_callable with feeds is Session.run in disguise.
                found = self._session._make_callable_from_options(options)  # noqa: SLF001
                self._callables[key] = found
                if len(self._callables) > _MAX_CALLABLES:
                    self._callables.popitem(last=False)
            else:
                self._callables.move_to_end(key)
            return found


def _load_error(tensorflow: Any, error: Exception) -> ModelLoadError:
    """Say what a failed load means: which status, and whether another try can help."""
    if isinstance(error, tensorflow.errors.OpError):
        code = code_of(error.error_code)
        return ModelLoadError(code, str(error.message), permanent=code not in _TRANSIENT)
    if isinstance(error, MemoryError):
        return ModelLoadError(grpc.StatusCode.RESOURCE_EXHAUSTED, "out of memory", permanent=False)
    if isinstance(error, (OSError, RuntimeError, TensorError, ValueError, KeyError)):
        return ModelLoadError(grpc.StatusCode.INVALID_ARGUMENT, str(error), permanent=True)
    return ModelLoadError(grpc.StatusCode.UNKNOWN, f"{type(error).__name__}: {error}", permanent=False)
