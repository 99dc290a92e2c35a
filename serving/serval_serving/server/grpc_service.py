"""The gRPC services: Predict, GetModelMetadata, GetModelStatus and health."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from serval_serving.server.binding import bind_inputs, by_alias, find_signature, select_outputs
from serval_serving.server.inference import Inference, Target
from serval_serving.server.metadata import model_metadata, model_status
from serval_serving.server.metrics import GRPC
from serval_serving.server.sockets import close_port, open_connections
from serval_serving.wire import messages, rpc
from serval_serving.wire.status import StatusError, cut_message
from serval_serving.wire.tensors import to_array, write_array

HEALTH_NAMES = (
    "",
    rpc.PREDICTION_SERVICE,
    rpc.MODEL_SERVICE,
    rpc.PREDICTION_SERVICE.rpartition(".")[2],
    rpc.MODEL_SERVICE.rpartition(".")[2],
)
"""Names that health checks know: the full ones, and the short ones that TensorFlow Serving uses."""

INTERNAL = "The server failed on this request; its log has the details."

LONGEST_DEADLINE_SECONDS = 86_400.0
"""What lies further away is no deadline: no client waits for a day."""

_CANCEL_SECONDS = 1.0
_FAREWELL_SPARE_SECONDS = 0.5
_STEP_SECONDS = 0.02
_log = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class GrpcOptions:
    """How the gRPC server listens.

    Attributes
    ----------
    port:
        TCP port, on all addresses.
    threads:
        RPCs handled at once.
    max_connection_age_seconds:
        Seconds after which a connection is told to go elsewhere; 0 for never.
    drain_seconds:
        Seconds that calls in progress have to finish once the server drains.
    arguments:
        Further channel arguments; they win over those set here.
    """

    port: int
    threads: int
    max_connection_age_seconds: float = 0.0
    drain_seconds: float = 30.0
    arguments: tuple[tuple[str, int | str], ...] = ()


class Services:
    """The behaviors of PredictionService and ModelService."""

    def __init__(self, inference: Inference) -> None:
        self._inference = inference

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """Make the handlers for a gRPC server."""
        return rpc.handlers(
            {
                rpc.PREDICT: self.predict,
                rpc.GET_MODEL_METADATA: self.get_model_metadata,
                rpc.GET_MODEL_STATUS: self.get_model_status,
            }
        )

    def predict(self, request: messages.PredictRequest, context: Any) -> messages.PredictResponse:
        """Answer Predict."""
        inference, metrics = self._inference, self._inference.metrics
        started = inference.now()
        name = request.model_spec.name
        try:
            with inference.admitted():
                response = self._predict(request, _time_left(context))
        except Exception as error:  # noqa: BLE001  every failure must get a status
            code, message = _status(error)
            metrics.ended(name, code)
            _abort(context, code, message)
        name = response.model_spec.name
        metrics.ended(name, grpc.StatusCode.OK)
        metrics.request_latency.observe((inference.now() - started) * 1e6, name, "Predict", GRPC)
        metrics.request_bytes.add(name, GRPC, amount=request.ByteSize())
        return response

    def get_model_metadata(
        self, request: messages.GetModelMetadataRequest, context: Any
    ) -> messages.GetModelMetadataResponse:
        """Answer GetModelMetadata."""
        return _answer(
            context, lambda: model_metadata(self._inference, _target(request), list(request.metadata_field))
        )

    def get_model_status(
        self, request: messages.GetModelStatusRequest, context: Any
    ) -> messages.GetModelStatusResponse:
        """Answer GetModelStatus."""
        return _answer(context, lambda: model_status(self._inference, _target(request)))

    def _predict(self, request: messages.PredictRequest, seconds: float | None) -> messages.PredictResponse:
        """Find the model, bind the inputs, run it and write the reply."""
        deadline = self._inference.deadline(seconds)
        with self._inference.lease(_target(request)) as lease:
            signature = find_signature(lease.model.signatures, request.model_spec.signature_name)
            given, by_tensor = by_alias(signature, request.inputs)
            arrays = bind_inputs(signature, given, to_array)
            outputs = select_outputs(signature, list(request.output_filter), by_tensor=by_tensor)
            aliases = list(dict.fromkeys(output.alias for output in outputs))
            results = dict(
                zip(aliases, self._inference.run(lease, signature, arrays, aliases, deadline), strict=True)
            )
            response = messages.PredictResponse(
                model_spec=messages.ModelSpec(name=lease.name, signature_name=signature.name)
            )
            response.model_spec.version.value = lease.version
            for output in outputs:
                write_array(response.outputs[output.key], results[output.alias])
        return response


class GrpcServer:
    """A gRPC server with the predict API and health checks.

    Parameters
    ----------
    inference:
        What answers.
    options:
        How to listen.
    """

    def __init__(self, inference: Inference, options: GrpcOptions) -> None:
        self._pool = ThreadPoolExecutor(options.threads, thread_name_prefix="grpc")
        self._server = grpc.server(self._pool, options=_arguments(options))
        self._server.add_generic_rpc_handlers(Services(inference).handlers())
        self._health = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._options = options

    def start(self) -> None:
        """Open the port.

        Raises
        ------
        StatusError
            UNAVAILABLE: the port cannot be had.
        """
        # One socket for IPv6 and IPv4; where there is no IPv6 gRPC takes IPv4 alone.
        address = f"[::]:{self._options.port}"
        try:
            bound = self._server.add_insecure_port(address)
        except RuntimeError:
            bound = 0
        if bound == 0:
            raise StatusError(grpc.StatusCode.UNAVAILABLE, f"gRPC cannot listen on {address}")
        for name in HEALTH_NAMES:
            self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        self._server.start()

    def drain(self) -> Callable[[], None]:
        """Report NOT_SERVING, close the port, and let clients leave.

        Returns at once; the function returned waits until all of them left and all calls ended, or until the
        time is over and the rest are cancelled.

        gRPC tells clients to go when it stops a server, but it cancels the calls that were on their way. So
        the server runs on until every connection reached its age, when clients leave without a loss.
        """
        started = time.monotonic()
        self._health.enter_graceful_shutdown()
        close_port(self._options.port)

        def wait() -> None:
            self._wait_for_clients(started + self._farewell_seconds())
            left = started + self._options.drain_seconds - time.monotonic()
            if not self._server.stop(max(0.0, left)).wait(max(0.0, left) + _CANCEL_SECONDS):
                _log.warning("gRPC calls were cut off: they did not end in time")
            self._pool.shutdown(wait=False)

        return wait

    def _farewell_seconds(self) -> float:
        """Say how long it takes until every connection has reached its age; gRPC varies it by a tenth."""
        age = self._options.max_connection_age_seconds
        return min(age * 1.1 + _FAREWELL_SPARE_SECONDS if age > 0 else 0.0, self._options.drain_seconds)

    def _wait_for_clients(self, end: float) -> None:
        """Wait until no connection is open, at most until a moment."""
        while time.monotonic() < end and open_connections(self._options.port):
            time.sleep(_STEP_SECONDS)


def _arguments(options: GrpcOptions) -> list[tuple[str, int | str]]:
    """Make the channel arguments."""
    arguments: dict[str, int | str] = {
        "grpc.max_receive_message_length": -1,
        "grpc.max_send_message_length": -1,
        # Two servers on one port would share its connections without a word.
        "grpc.so_reuseport": 0,
        # Clients may ping as often as they like, also between calls.
        "grpc.keepalive_permit_without_calls": 1,
        "grpc.http2.min_recv_ping_interval_without_data_ms": 1000,
        "grpc.http2.max_ping_strikes": 0,
    }
    if options.max_connection_age_seconds > 0:
        arguments["grpc.max_connection_age_ms"] = int(options.max_connection_age_seconds * 1000)
    arguments.update(options.arguments)
    return list(arguments.items())


def _target(request: Any) -> Target:
    """Read a request's model spec."""
    if not request.HasField("model_spec"):
        return Target(None)
    spec = request.model_spec
    version = spec.version.value if spec.HasField("version") else None
    return Target(spec.name, version, spec.version_label, spec.signature_name)


def _answer(context: Any, make: Callable[[], _T]) -> _T:
    """Answer with what `make` returns, or with the status of what it raises."""
    try:
        return make()
    except Exception as error:  # noqa: BLE001  every failure must get a status
        _abort(context, *_status(error))


def _time_left(context: Any) -> float | None:
    """Seconds until the client's deadline; None if it has none, which grpcio tells by some 300 years."""
    left: float | None = context.time_remaining()
    return None if left is None or left > LONGEST_DEADLINE_SECONDS else left


def _status(error: Exception) -> tuple[grpc.StatusCode, str]:
    """Turn a failure into a status; what nobody foresaw goes to the log, not to the caller."""
    if isinstance(error, StatusError):
        return error.code, error.message
    _log.error("a request failed unexpectedly", exc_info=error)
    return grpc.StatusCode.INTERNAL, INTERNAL


def _abort(context: Any, code: grpc.StatusCode, message: str) -> NoReturn:
    """End a call with a status."""
    context.abort(code, cut_message(message))
    raise AssertionError("abort returns never")
