"""Small model servers for the clients to talk to, made of the wire package alone."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import numpy as np

from serval_serving.wire import messages, rpc
from serval_serving.wire.tensors import to_array, write_array
from serval_serving.wire.timing import REPLY_HEADER, REQUEST_HEADER


class Model:
    """Answers `digits`: for each string its length and a row of ten scores; keeps what it was asked."""

    def __init__(self) -> None:
        self.requests: list[messages.PredictRequest] = []
        self.headers: list[dict[str, str]] = []
        self.refusals: list[tuple[grpc.StatusCode, str]] = []
        self.times = ""

    def predict(self, request: messages.PredictRequest, context: Any) -> messages.PredictResponse:
        self.requests.append(request)
        self.headers.append(dict(context.invocation_metadata()))
        if self.refusals:
            context.abort(*self.refusals.pop(0))
        if self.times and REQUEST_HEADER in self.headers[-1]:
            context.set_trailing_metadata(((REPLY_HEADER, self.times),))
        images = to_array(request.inputs["images"])
        scores = np.tile(np.arange(10, dtype=np.float32), (len(images), 1))
        reply = messages.PredictResponse(model_spec=messages.ModelSpec(name="digits"))
        write_array(reply.outputs["classes"], np.array([len(image) for image in images], dtype=np.int64))
        write_array(reply.outputs["probabilities"], scores)
        write_array(reply.outputs["echo"], images)
        return reply

    def metadata(self, request: messages.GetModelMetadataRequest, context: Any) -> Any:
        if list(request.metadata_field) != ["signature_def"]:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "which field?")
        found = messages.SignatureDefMap()
        signature = found.signature_def["serving_default"]
        signature.method_name = "tensorflow/serving/predict"
        image = signature.inputs["images"]
        image.name, image.dtype = "images:0", 7
        image.tensor_shape.dim.add(size=-1)
        scores = signature.outputs["probabilities"]
        scores.name, scores.dtype = "p:0", 1
        scores.tensor_shape.unknown_rank = True
        reply = messages.GetModelMetadataResponse(model_spec=messages.ModelSpec(name="digits"))
        reply.model_spec.version.value = 3
        reply.metadata["signature_def"].type_url = "type.googleapis.com/tensorflow.serving.SignatureDefMap"
        reply.metadata["signature_def"].value = found.SerializeToString()
        return reply

    def status(self, request: messages.GetModelStatusRequest, context: Any) -> Any:
        if request.model_spec.name == "absent":
            context.abort(grpc.StatusCode.NOT_FOUND, "Could not find any versions of model absent")
        reply = messages.GetModelStatusResponse()
        reply.model_version_status.add(version=3, state=30)
        failed = messages.StatusProto(error_code=3, error_message="broken")
        reply.model_version_status.add(version=2, state=50, status=failed)
        return reply


@contextmanager
def grpc_server(model: Model, address: str = "127.0.0.1:0", credentials: Any = None) -> Iterator[int]:
    """Serve `model`; yield the port."""
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(
            pool, options=[("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)]
        )
        server.add_generic_rpc_handlers(
            rpc.handlers(
                {
                    rpc.PREDICT: model.predict,
                    rpc.GET_MODEL_METADATA: model.metadata,
                    rpc.GET_MODEL_STATUS: model.status,
                }
            )
        )
        port = (
            server.add_insecure_port(address)
            if credentials is None
            else server.add_secure_port(address, credentials)
        )
        server.start()
        try:
            yield port
        finally:
            server.stop(0).wait(10)


Reply = tuple[int, bytes]


class RestSite:
    """An HTTP server: answers per path, one after the other, the last for ever; keeps what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Reply]] = {}
        self.requests: list[tuple[str, str, bytes, dict[str, str]]] = []
        self.peers: set[Any] = set()
        self.times = ""
        self.wait: Callable[[], object] = lambda: None

    def answer(self, path: str, *replies: tuple[int, Any]) -> None:
        """Answer with bytes as they are, with anything else as JSON."""
        self.answers[path] = [
            (status, body if isinstance(body, bytes) else json.dumps(body).encode())
            for status, body in replies
        ]


@contextmanager
def rest_server(site: RestSite) -> Iterator[str]:
    """Serve `site`; yield the base URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            site.requests.append((self.command, self.path, self.rfile.read(length), dict(self.headers)))
            site.peers.add(self.client_address)
            site.wait()
            replies = site.answers.get(self.path, [(404, b'{"error": "no such path"}')])
            status, body = replies.pop(0) if len(replies) > 1 else replies[0]
            self.send_response(status)
            kind = "application/json" if body.startswith((b"{", b"[")) else "text/plain"
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            if site.times and REQUEST_HEADER in self.headers:
                self.send_header("Server-Timing", site.times)
            self.end_headers()
            with suppress(OSError):  # a client that waited too long is gone
                self.wfile.write(body)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join(timeout=10)
