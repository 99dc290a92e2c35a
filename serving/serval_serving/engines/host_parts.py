"""The part of an accelerated model before the device: photos by Pillow, a TensorFlow graph, or nothing."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import grpc
import numpy as np

from serval_contract.devices import ARTIFACT_INVALID
from serval_serving.accel.artifact import HOST_FILE, Host, Preprocessing, Tensor
from serval_serving.engines.base import TIMED_OUT, ModelLoadError
from serval_serving.wire.status import StatusError, code_of, invalid

Tensors = Mapping[str, np.ndarray]

MAX_PREPARED_BYTES: Final = 256 << 20
"""Of the photos that are prepared at once: a photo of some hundred bytes becomes half a megabyte or more."""


class HostPart(Protocol):
    """Runs on the CPU. Its methods may be called from many threads."""

    def run(self, tensors: Tensors, timeout: float | None) -> Tensors:
        """Return the tensors that it adds.

        Raises
        ------
        StatusError
            INVALID_ARGUMENT: the tensors cannot be used; DEADLINE_EXCEEDED, or what TensorFlow says.
        """

    def close(self) -> None:
        """Free what it holds."""


def open_host(folder: Path, host: Host, threads: int) -> HostPart:
    """Open the host part of the artifact in a folder.

    Raises
    ------
    ModelLoadError
        A package is missing, or the graph cannot be used.
    """
    try:
        if host.kind == "Images":
            return Images(host)
        return Graph(folder / HOST_FILE, host, threads) if host.kind == "Graph" else Nothing()
    except ImportError as error:
        message = f"this server cannot run a host part of kind {host.kind}: {error}"
        raise ModelLoadError(grpc.StatusCode.UNIMPLEMENTED, message, permanent=True) from error


class Nothing:
    """No host part: the device takes the inputs of the signature."""

    def run(self, tensors: Tensors, timeout: float | None) -> Tensors:  # noqa: ARG002  see `HostPart`
        """Add nothing."""
        return {}

    def close(self) -> None:
        """Hold nothing."""


class Images:
    """Decodes and prepares photos by Pillow and numpy."""

    def __init__(self, host: Host) -> None:
        # Pillow is imported here, so that a server of other models does without.
        from PIL import Image  # noqa: F401, PLC0415

        from serval_serving.accel.preprocess import preprocess  # noqa: PLC0415

        assert host.preprocessing is not None  # noqa: S101  the artifact was checked
        self._preprocess = preprocess
        self._preprocessing: Preprocessing = host.preprocessing
        self._input, self._output = host.inputs[0].name, host.outputs[0].name

    def run(self, tensors: Tensors, timeout: float | None) -> Tensors:
        """Prepare photos, one after another, as long as someone waits; see `HostPart.run`."""
        end = None if timeout is None else time.monotonic() + timeout
        photos: list[bytes] = tensors[self._input].tolist()
        shape = (self._preprocessing.height, self._preprocessing.width, 3)
        most = max(1, MAX_PREPARED_BYTES // (math.prod(shape) * np.dtype(np.float32).itemsize or 1))
        if len(photos) > most:
            raise invalid(f"input {self._input} has {len(photos)} photos; this model takes {most} at most")
        batch = np.empty((len(photos), *shape), np.float32)
        for index, photo in enumerate(photos):
            if end is not None and time.monotonic() >= end:
                raise StatusError(grpc.StatusCode.DEADLINE_EXCEEDED, TIMED_OUT)
            try:
                (batch[index],) = self._preprocess([photo], self._preprocessing)
            except ValueError as error:
                words = str(error).removeprefix("photo 0: ")
                raise invalid(f"input {self._input}, photo {index}: {words}") from error
        return {self._output: batch}

    def close(self) -> None:
        """Hold nothing."""


class Graph:
    """Runs a frozen GraphDef in a session of TensorFlow, which is imported only for this."""

    def __init__(self, file: Path, host: Host, threads: int) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        import tensorflow as tf  # noqa: PLC0415  takes seconds

        tf.get_logger().setLevel("ERROR")
        self._tf: Any = tf
        tf1 = tf.compat.v1
        self._names = _names(host.outputs)
        config = tf1.ConfigProto(intra_op_parallelism_threads=threads, inter_op_parallelism_threads=threads)
        try:
            definition = tf1.GraphDef.FromString(file.read_bytes())
            with tf.Graph().as_default() as graph:
                tf.import_graph_def(definition, name="")
                for name in (*_names(host.inputs), *self._names):
                    graph.get_tensor_by_name(name)
        except Exception as error:
            message = f"{ARTIFACT_INVALID}: TensorFlow cannot use {file.name}: {error}"
            raise ModelLoadError(grpc.StatusCode.INVALID_ARGUMENT, message, permanent=True) from error
        self._inputs = _names(host.inputs)
        self._session: Any = tf1.Session(graph=graph, config=config)

    def run(self, tensors: Tensors, timeout: float | None) -> Tensors:
        """Run the graph; see `HostPart.run`."""
        milliseconds = 0 if timeout is None else max(1, int(timeout * 1000))
        options = self._tf.compat.v1.RunOptions(timeout_in_ms=milliseconds)
        feeds = {name: tensors[name] for name in self._inputs}
        try:
            results = self._session.run(list(self._names), feeds, options=options)
        except self._tf.errors.OpError as error:
            raise StatusError(code_of(error.error_code), str(error.message)) from error
        except (TypeError, ValueError) as error:
            raise invalid(str(error)) from error
        return dict(zip(self._names, map(np.asarray, results), strict=True))

    def close(self) -> None:
        """Close the session."""
        self._session.close()


def _names(tensors: Sequence[Tensor]) -> tuple[str, ...]:
    return tuple(one.name for one in tensors)
