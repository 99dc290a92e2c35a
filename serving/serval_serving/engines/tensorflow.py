"""TensorFlow, through the session loader of TensorFlow 1.

It loads SavedModels of TensorFlow 1 and 2 alike and runs them through the same C++ session as TensorFlow
Serving does; `tf.saved_model.load` refuses some that the former can. TensorFlow is imported when the engine
is made, since that takes seconds and half a gigabyte.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from serval_serving.engines.base import (
    CPU,
    ModelLoadError,
    Shape,
    Signature,
    TensorSpec,
    merge_shapes,
    signature_of,
)
from serval_serving.engines.placement import DeviceWatch
from serval_serving.engines.shape_inference import GraphShapes
from serval_serving.engines.shape_verdicts import Feed, InferenceBudget, Question, ShapeVerdicts
from serval_serving.models.formats import SAVED_MODEL_FORMAT
from serval_serving.models.savedmodel import ModelInvalid, check_signatures, parse_signature
from serval_serving.wire import messages
from serval_serving.wire.dtypes import dtype_of
from serval_serving.wire.errors import TensorError
from serval_serving.wire.status import StatusError, code_of

NO_SAVED_MODEL = "Could not find SavedModel .pb or .pbtxt at supplied export directory path: {path}"

_TRANSIENT = frozenset(
    {
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,  # CUDA initialisation reports itself so
    }
)


INLINE_SECONDS = 0.005
"""Runs that took at most so long are made in the calling thread, which nothing can stop."""

_LOOPS = frozenset({"While", "StatelessWhile", "For", "Enter", "NextIteration"})


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
    slots:
        Runs in progress at once, of all models together.
    """

    tags: tuple[str, ...] = ("serve",)
    intra_op_threads: int = 0
    inter_op_threads: int = 0
    gpu_memory_fraction: float = 0.0
    slots: int = 1


class TensorFlowEngine:
    """Loads SavedModels into sessions of their own."""

    name = "tensorflow"

    def __init__(self, options: SessionOptions) -> None:
        # Without this each refused request would leave lines of the runtime's own in the log.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        import tensorflow as tf  # noqa: PLC0415  takes seconds; only the process that serves with it pays
        from tensorflow.python.client import pywrap_tf_session  # noqa: PLC0415  the same

        tf.get_logger().setLevel("ERROR")
        self._native: Any = pywrap_tf_session
        self._tf: Any = tf
        self._options = options
        self._slots = threading.Semaphore(options.slots)
        self._budget = InferenceBudget()

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
        if not SAVED_MODEL_FORMAT.fits(path):
            raise ModelLoadError(grpc.StatusCode.NOT_FOUND, NO_SAVED_MODEL.format(path=path), permanent=True)
        tf1 = self._tf.compat.v1
        graph = self._tf.Graph()
        session = tf1.Session(graph=graph, config=self._config())
        try:
            with graph.as_default():
                meta_graph = tf1.saved_model.loader.load(session, list(self._options.tags), str(path))
            watch = DeviceWatch(self._accelerator())
            verdicts = ShapeVerdicts(GraphShapes(self._tf, meta_graph).refusal, self._budget)
            return TensorFlowModel(self._tf, self._native, session, meta_graph, watch, self._slots, verdicts)
        except Exception as error:
            session.close()
            raise _load_error(self._tf, error) from error

    def _accelerator(self) -> str:
        """Kind of the accelerators that TensorFlow sees, such as `GPU`; empty where it sees none."""
        kind = self.devices()[0].partition(":")[0]
        return "" if kind == CPU else kind

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

    runtime = "TF1"
    """TensorFlow Serving's own label for models that run in a session."""
    exclusive = None

    def __init__(
        self,
        tensorflow: Any,
        native: Any,
        session: Any,
        meta_graph: Any,
        watch: DeviceWatch,
        slots: threading.Semaphore,
        verdicts: ShapeVerdicts,
    ) -> None:
        self._tf = tensorflow
        self.slots = slots
        self._verdicts = verdicts
        self._watch = watch
        self._native = native
        self._session = session
        self._endpoints: dict[str, Any] = {}
        self._inline_options = self._native_options(inter_op_thread_pool=-1)
        self._may_be_inline = watch.device == CPU and not _has_loops(meta_graph.graph_def)
        self._seconds: dict[str, float] = {}
        self._definitions = messages.SignatureDefMap()
        for name, definition in meta_graph.signature_def.items():
            # TensorFlow's own message class comes from another pool: the bytes are what they share.
            self._definitions.signature_def[name].MergeFromString(definition.SerializeToString())
        declared = {
            name: parse_signature(definition.SerializeToString())
            for name, definition in self._definitions.signature_def.items()
        }
        check_signatures(declared, quantized=False)
        self._declared = declared
        self._signatures = {
            name: self._signature(name, self._definitions.signature_def[name])
            for name in sorted(self._definitions.signature_def)
        }

    @property
    def device(self) -> str:
        """What it ran on; empty before its first run where TensorFlow sees an accelerator."""
        return self._watch.device

    @property
    def signatures(self) -> Mapping[str, Signature]:
        """The signatures by name."""
        return self._signatures

    @property
    def signature_defs(self) -> messages.SignatureDefMap:
        """The signatures as the SavedModel declares them."""
        return self._definitions

    def check(
        self, signature: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str], timeout: float | None
    ) -> None:
        """Ask shape inference about shapes that the signature does not describe; see `LoadedModel.check`."""
        if obstacle := self._declared[signature].obstacle(outputs):
            words = f"{obstacle}, which the predict API cannot carry"
            raise StatusError(grpc.StatusCode.INVALID_ARGUMENT, f"signature {signature}: {words}")
        specs = self._signatures[signature].inputs
        if all(fits(spec.shape, inputs[alias].shape) for alias, spec in specs.items()):
            return
        try:
            self._check_shapes(specs, inputs, self._fetches(signature, outputs), timeout)
        except (self._tf.errors.OpError, KeyError, TypeError, ValueError) as error:
            raise self._refusal(error) from error

    def run(
        self,
        signature: str,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str],
        timeout: float | None = None,
    ) -> list[np.ndarray]:
        """Run one signature in the calling thread; see `LoadedModel.run`.

        This is the call inside `Session.run` without what that does around it in Python: 27 us instead of
        100 us for a model of two operations. The types of its feeds were checked already.

        Shapes that the signature does not describe must pass shape inference first, since some kernels end
        the process on a tensor of the wrong rank. The verdict is known already if `check` was called.

        Runs that are quick are made in the calling thread: waking others costs 120 us of CPU, three times
        such a run itself. TensorFlow cannot stop these, so a graph with loops, which may take any time, is
        never run so, nor one that was slow of late, nor one on a GPU, where it was not tried.
        """
        self.check(signature, inputs, outputs, timeout)
        specs = self._signatures[signature]
        fetches = self._fetches(signature, outputs)
        inline = self._may_be_inline and self._seconds.get(signature, math.inf) <= INLINE_SECONDS
        trace = self._native.TF_NewBuffer() if self._watch.wants(signature) else None
        options = self._inline_options if inline else self._run_options(timeout, traced=trace is not None)
        started = time.perf_counter()
        try:
            feeds = {self._endpoint(spec.name): inputs[alias] for alias, spec in specs.inputs.items()}
            results = self._session._call_tf_sessionrun(  # noqa: SLF001  see above
                options, feeds, [self._endpoint(name) for name in fetches], [], trace
            )
            if trace is not None:
                self._read_trace(signature, trace)
        except (self._tf.errors.OpError, KeyError, TypeError, ValueError) as error:
            raise self._refusal(error) from error
        finally:
            if options is not None and not inline:
                self._native.TF_DeleteBuffer(options)
            if trace is not None:
                self._native.TF_DeleteBuffer(trace)
        self._note(signature, time.perf_counter() - started)
        by_name = dict(zip(fetches, results, strict=True))
        return [np.asarray(by_name[specs.outputs[alias].name]) for alias in outputs]

    def close(self) -> None:
        """Close the session."""
        self._session.close()
        self._native.TF_DeleteBuffer(self._inline_options)

    def _fetches(self, signature: str, outputs: Sequence[str]) -> list[str]:
        """Name the tensors that outputs are, each once."""
        specs = self._signatures[signature].outputs
        return sorted({specs[alias].name for alias in outputs})

    def _refusal(self, error: Exception) -> StatusError:
        """Say what an error of TensorFlow means to the caller."""
        if isinstance(error, self._tf.errors.OpError):
            return StatusError(code_of(error.error_code), str(error.message))
        # The words for a request at fault quote it, and that need not be text.
        if isinstance(error, UnicodeDecodeError):
            return StatusError(grpc.StatusCode.INVALID_ARGUMENT, error.object.decode(errors="replace"))
        return StatusError(grpc.StatusCode.INVALID_ARGUMENT, str(error))

    def _check_shapes(
        self,
        specs: Mapping[str, TensorSpec],
        inputs: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        timeout: float | None,
    ) -> None:
        """Ask shape inference about shapes that differ from the signature, or whose rank it leaves open.

        A rank that is open is asked about with all dimensions open, once for each rank: the request then
        fits a signature of that rank, and all its sizes are as good as those that a signature leaves open.
        """
        open_only = all(
            spec.shape is None or fits(spec.shape, inputs[alias].shape) for alias, spec in specs.items()
        )
        feeds = []
        for alias, spec in specs.items():
            shape: tuple[int | None, ...] = inputs[alias].shape
            if open_only:
                shape = (None,) * len(shape) if spec.shape is None else spec.shape
            feeds.append(Feed(spec.name, dtype_of(inputs[alias]), shape))
        self._verdicts.check(Question(tuple(feeds), tuple(fetches)), timeout)

    def _read_trace(self, signature: str, trace: Any) -> None:
        """Learn from the trace of a run where its operators ran."""
        metadata = self._tf.compat.v1.RunMetadata.FromString(self._native.TF_GetBuffer(trace))
        self._watch.note(signature, metadata.step_stats)

    def _note(self, signature: str, seconds: float) -> None:
        """Note how long a run took; a slow one is forgotten only slowly."""
        before = self._seconds.get(signature, seconds)
        self._seconds[signature] = max(seconds, before * 0.9 + seconds * 0.1)

    def _signature(self, name: str, definition: messages.SignatureDef) -> Signature:
        """Read a signature, narrowing the shapes of its inputs by those of the graph's placeholders."""
        signature = signature_of(name, definition)
        inputs = {alias: self._narrowed(spec) for alias, spec in signature.inputs.items()}
        return replace(signature, inputs=inputs)

    def _narrowed(self, spec: TensorSpec) -> TensorSpec:
        """Add what the graph knows of an input's shape."""
        if not spec.name:
            return spec
        shape = self._session.graph.get_tensor_by_name(spec.name).shape
        known = tuple(shape.as_list()) if shape.rank is not None else None
        return TensorSpec(spec.name, spec.dtype, merge_shapes(spec.shape, known))

    def _endpoint(self, name: str) -> Any:
        """Find a tensor of the graph in the form that the native call takes."""
        found = self._endpoints.get(name)
        if found is None:
            tensor = self._session.graph.get_tensor_by_name(name)
            found = self._endpoints[name] = tensor._as_tf_output()  # noqa: SLF001  there is no other way
        return found

    def _run_options(self, timeout: float | None, *, traced: bool) -> Any:
        """Make the native options of a run that must end in so many seconds; None where it needs none."""
        # Of the executors alone: a trace of the hardware would need a profiler.
        fields = {"trace_level": self._tf.compat.v1.RunOptions.SOFTWARE_TRACE} if traced else {}
        if timeout is not None:
            fields["timeout_in_ms"] = max(1, math.ceil(timeout * 1000))
        return self._native_options(**fields) if fields else None

    def _native_options(self, **fields: int) -> Any:
        """Make native options."""
        options = self._tf.compat.v1.RunOptions(**fields)
        return self._native.TF_NewBufferFromString(options.SerializeToString())


def fits(shape: Shape, actual: tuple[int, ...]) -> bool:
    """Whether a tensor has the rank and the dimensions of a shape; no tensor fits a shape of open rank."""
    return (
        shape is not None
        and len(shape) == len(actual)
        and all(want is None or want == size for want, size in zip(shape, actual, strict=True))
    )


def _has_loops(graph: Any) -> bool:
    """Whether a graph, or a function in it, may run operators again and again."""
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    return any(node.op in _LOOPS for node in nodes)


def _load_error(tensorflow: Any, error: Exception) -> ModelLoadError:
    """Say what a failed load means: which status, and whether another try can help."""
    if isinstance(error, tensorflow.errors.OpError):
        code = code_of(error.error_code)
        return ModelLoadError(code, str(error.message), permanent=code not in _TRANSIENT)
    if isinstance(error, MemoryError):
        return ModelLoadError(grpc.StatusCode.RESOURCE_EXHAUSTED, "out of memory", permanent=False)
    if isinstance(error, (ModelInvalid, OSError, RuntimeError, TensorError, ValueError, KeyError)):
        return ModelLoadError(grpc.StatusCode.INVALID_ARGUMENT, str(error), permanent=True)
    return ModelLoadError(grpc.StatusCode.UNKNOWN, f"{type(error).__name__}: {error}", permanent=False)
