"""A predict server that notes what reaches it. As strict as TensorFlow Serving: no model is guessed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np

from serval_serving.wire import messages, rpc
from serval_serving.wire.tensors import from_array, to_array
from support.ports import free_port

Answer = Callable[[bytes, Any], Any]
AVAILABLE, LOADING = 30, 20
TENSOR = "map/images:0"
LABELS = {"stable": 3}
OUTPUTS = {"classes": "ArgMax:0", "probabilities": "Softmax:0"}


@dataclass
class Call:
    """What came of one call."""

    path: str
    data: bytes
    metadata: dict[str, Any]
    seconds: float
    ended: threading.Event = field(default_factory=threading.Event)


class Recorder(grpc.GenericRpcHandler):  # type: ignore[misc]
    """The server, of the model `m`; it runs in this process."""

    def __init__(self) -> None:
        self.port = free_port()
        self.calls: list[Call] = []
        self.states = {3: AVAILABLE}
        self.answers: dict[str, Answer] = {}
        self._own: dict[str, Answer] = {
            rpc.GET_MODEL_STATUS.path: self._status,
            rpc.GET_MODEL_METADATA.path: self._metadata,
            rpc.PREDICT.path: self._predict,
        }
        self._server: Any = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        self._server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers([self])
        assert self._server.add_insecure_port(self.address) == self.port
        self._server.start()

    def stop(self) -> None:
        self._server.stop(0).wait(10)

    def last(self, path: str) -> Call:
        return [call for call in self.calls if call.path == path][-1]

    def count(self, path: str) -> int:
        return sum(call.path == path for call in self.calls)

    def service(self, handler_call_details: Any) -> Any:
        path = handler_call_details.method

        def behavior(data: bytes, context: Any) -> Iterator[bytes]:
            call = Call(path, data, dict(context.invocation_metadata()), context.time_remaining())
            self.calls.append(call)
            context.add_callback(call.ended.set)
            answer = self.answers.get(path) or self._own.get(path) or (lambda data, _: data)
            replies = answer(data, context)
            yield from [replies] if isinstance(replies, bytes) else replies

        return grpc.unary_stream_rpc_method_handler(behavior)

    def _status(self, data: bytes, context: Any) -> bytes:
        name = messages.GetModelStatusRequest.FromString(data).model_spec.name
        if name != "m":
            context.abort(grpc.StatusCode.NOT_FOUND, f"Could not find any versions of model {name}")
        reply = messages.GetModelStatusResponse()
        for version, state in self.states.items():
            reply.model_version_status.add(
                version=version, state=state, status=messages.StatusProto(error_code=0)
            )
        return reply.SerializeToString()

    def _metadata(self, data: bytes, context: Any) -> bytes:
        spec = messages.GetModelMetadataRequest.FromString(data).model_spec
        found = messages.SignatureDefMap()
        signature = found.signature_def["serving_default"]
        signature.inputs["images"].CopyFrom(_info(TENSOR, 7, None))
        for alias, name in OUTPUTS.items():
            signature.outputs[alias].CopyFrom(_info(name, 1, None))
        reply = messages.GetModelMetadataResponse(model_spec=messages.ModelSpec(name=spec.name))
        reply.model_spec.version.value = self._version(spec, context)
        reply.metadata["signature_def"].Pack(found)
        return reply.SerializeToString()

    def _predict(self, data: bytes, context: Any) -> bytes:
        """`classes`: the lengths of the images; `probabilities`: halves of these."""
        request = messages.PredictRequest.FromString(data)
        version = self._version(request.model_spec, context)
        if set(request.inputs) != {"images"}:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"unknown inputs: {sorted(request.inputs)}")
        sizes = np.array([len(image) for image in to_array(request.inputs["images"])], np.float32)
        found = {"classes": sizes, "probabilities": sizes / 2}
        reply = messages.PredictResponse(model_spec=messages.ModelSpec(name="m"))
        reply.model_spec.version.value = version
        for alias in request.output_filter or found:
            if alias not in found:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"output tensor alias not found: {alias}")
            reply.outputs[alias].CopyFrom(from_array(found[alias]))
        return reply.SerializeToString()

    def _version(self, spec: messages.ModelSpec, context: Any) -> int:
        if not spec.name:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "ModelSpec has no name specified.")
        served = [version for version, state in self.states.items() if state == AVAILABLE]
        newest = LABELS.get(spec.version_label, max(served, default=0))
        version = spec.version.value if spec.HasField("version") else newest
        if spec.name != "m" or version not in served:
            context.abort(grpc.StatusCode.NOT_FOUND, "Servable not found for request")
        return version


def _info(name: str, dtype: int, rows: int | None) -> messages.TensorInfo:
    info = messages.TensorInfo(name=name, dtype=dtype)
    info.tensor_shape.dim.add(size=-1 if rows is None else rows)
    return info
