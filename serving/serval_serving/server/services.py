"""The behaviors of PredictionService and ModelService: messages in, messages out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import grpc

from serval_serving.models.served_models import ServedModels
from serval_serving.server import examples, grpc_calls
from serval_serving.server.azure import routed_name
from serval_serving.server.inference import Inference
from serval_serving.server.metadata import model_metadata, model_status
from serval_serving.server.metrics import CLASSIFY, GRPC, MULTI_INFERENCE, PREDICT, REGRESS
from serval_serving.server.pipeline import Call, Endpoint, Pipeline
from serval_serving.server.predict import predict, read_target, target_of
from serval_serving.server.reload import NO_RELOAD, reload
from serval_serving.server.request_timing import waited
from serval_serving.wire import messages, rpc
from serval_serving.wire.field_budget import Left, parse
from serval_serving.wire.predict_codec import Request, read_request
from serval_serving.wire.status import StatusError


@dataclass(frozen=True, slots=True)
class Rpc:
    """An RPC of the table.

    Attributes
    ----------
    method:
        Its names and its classes of messages.
    endpoint:
        Its steps in the pipeline.
    answer:
        Makes the reply, a message or its bytes, of a request, its call and its context.
    model:
        Reads the model's name from a request.
    read:
        Reads a request, in place of its class. The second argument tells the seconds that are left.
    """

    method: rpc.Method
    endpoint: Endpoint
    answer: Callable[[Any, Call, Any], Any]
    model: Callable[[Any], str]
    read: Callable[[bytes, Left], Any] | None = None


class Services:
    """The behaviors of both services.

    Parameters
    ----------
    inference:
        What answers.
    served:
        The models that it answers with, for those that change which these are.
    pipeline:
        Takes the calls through the common steps.
    typed:
        Whether outputs of Predict come in typed fields (`float_val`), or as `tensor_content`.
    reloads:
        Whether callers may change which models are served.
    """

    def __init__(
        self,
        inference: Inference,
        served: ServedModels,
        pipeline: Pipeline,
        *,
        typed: bool = True,
        reloads: bool = False,
    ) -> None:
        self._inference = inference
        self._pipeline = pipeline
        self._served = served
        self._typed = typed
        self._reloads = reloads

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """Make the handlers for a gRPC server. Methods that are not in the table answer UNIMPLEMENTED."""
        services: dict[str, dict[str, Any]] = {}
        for entry in self.rpcs():
            behavior = partial(self._answer, entry)
            handler = grpc_calls.unary_handler(self._pipeline, behavior, keyless=entry.endpoint.open)
            services.setdefault(entry.method.service, {})[entry.method.name] = handler
        return [grpc.method_handlers_generic_handler(name, found) for name, found in services.items()]

    def rpcs(self) -> Sequence[Rpc]:
        """List the RPCs that are answered."""
        control = partial(Endpoint, entrypoint=GRPC, limited=False, counted=False)
        return (
            Rpc(rpc.PREDICT, Endpoint(PREDICT, GRPC), self._predict, _spec_name, read_request),
            Rpc(rpc.CLASSIFY, Endpoint(CLASSIFY, GRPC), self._classify, _spec_name),
            Rpc(rpc.REGRESS, Endpoint(REGRESS, GRPC), self._regress, _spec_name),
            Rpc(rpc.MULTI_INFERENCE, Endpoint(MULTI_INFERENCE, GRPC), self._multi_inference, _first_name),
            Rpc(
                rpc.GET_MODEL_METADATA,
                control(rpc.GET_MODEL_METADATA.name, open=True),
                self._metadata,
                _spec_name,
            ),
            Rpc(
                rpc.GET_MODEL_STATUS, control(rpc.GET_MODEL_STATUS.name, open=True), self._status, _spec_name
            ),
            Rpc(
                rpc.HANDLE_RELOAD_CONFIG,
                control(rpc.HANDLE_RELOAD_CONFIG.name),
                self._reload if self._reloads else _no_reload,
                _no_name,
            ),
        )

    def _answer(self, entry: Rpc, receive: grpc_calls.Receive, context: Any) -> bytes:
        """Answer a call of one RPC."""
        read = entry.read or partial(parse, entry.method.request)

        def left(call: Call) -> float | None:
            return call.deadline.left(self._pipeline.now())

        def steps(call: Call) -> bytes:
            data = receive()
            call.received(len(data), waited())
            with self._pipeline.receipts.holding(len(data)):
                request = grpc_calls.read_message(lambda data: read(data, partial(left, call)), data)
                call.model = entry.model(request)
                return call.run(lambda: _written(entry.answer(request, call, context)))

        return grpc_calls.answer(self._pipeline, entry.endpoint, context, steps)

    def _metadata(
        self, request: messages.GetModelMetadataRequest, _call: Call, _context: Any
    ) -> messages.GetModelMetadataResponse:
        """Answer GetModelMetadata."""
        return model_metadata(self._inference, target_of(request), list(request.metadata_field))

    def _status(
        self, request: messages.GetModelStatusRequest, _call: Call, _context: Any
    ) -> messages.GetModelStatusResponse:
        """Answer GetModelStatus."""
        return model_status(self._inference, target_of(request))

    def _reload(
        self, request: messages.ReloadConfigRequest, _call: Call, context: Any
    ) -> messages.ReloadConfigResponse:
        """Answer HandleReloadConfigRequest, once the new models serve or the caller has gone."""
        return reload(self._served, request, lambda: not context.is_active())

    def _predict(self, request: Request, call: Call, context: Any) -> bytes:
        """Answer Predict with the bytes of its reply."""
        target = read_target(request.model_spec)
        if not target.name:
            target = replace(target, route=routed_name(context.invocation_metadata()))
        with self._inference.acquire(target) as handle:
            reply = predict(self._inference, handle, request, call.deadline, typed=self._typed)
        call.model = handle.name
        return reply

    def _classify(
        self, request: messages.ClassificationRequest, call: Call, _context: Any
    ) -> messages.ClassificationResponse:
        """Answer Classify."""
        scored = examples.classify(self._inference, target_of(request), request.input, call.deadline)
        call.model = scored.name
        result = _classification(scored.result)
        return messages.ClassificationResponse(model_spec=scored.model_spec(), result=result)

    def _regress(
        self, request: messages.RegressionRequest, call: Call, _context: Any
    ) -> messages.RegressionResponse:
        """Answer Regress."""
        scored = examples.regress(self._inference, target_of(request), request.input, call.deadline)
        call.model = scored.name
        result = _regression(scored.result)
        return messages.RegressionResponse(model_spec=scored.model_spec(), result=result)

    def _multi_inference(
        self, request: messages.MultiInferenceRequest, call: Call, _context: Any
    ) -> messages.MultiInferenceResponse:
        """Answer MultiInference: run all tasks."""
        tasks = [(target_of(task), task.method_name) for task in request.tasks]
        scored = examples.multi_inference(self._inference, tasks, request.input, call.deadline)
        call.model = scored[0].name
        return messages.MultiInferenceResponse(results=map(_inference_result, scored))


def _written(reply: Any) -> bytes:
    """Return the bytes of a reply."""
    data: bytes = reply if isinstance(reply, bytes) else reply.SerializeToString()
    return data


def _spec_name(request: Any) -> str:
    """Return the name in the model spec; empty if there is none."""
    name: str = request.model_spec.name if request.model_spec is not None else ""
    return name


def _first_name(request: messages.MultiInferenceRequest) -> str:
    """Return the name in the model spec of the first task; empty if there is none."""
    return request.tasks[0].model_spec.name if request.tasks else ""


def _no_reload(_request: Any, _call: Call, _context: Any) -> Any:
    """Refuse to change the models.

    Raises
    ------
    StatusError
        PERMISSION_DENIED.
    """
    raise StatusError(grpc.StatusCode.PERMISSION_DENIED, NO_RELOAD)


def _no_name(_request: Any) -> str:
    """Return no name: the request is not about one model."""
    return ""


def _inference_result(scored: examples.Scored) -> messages.InferenceResult:
    """Write the result of one task."""
    spec = scored.model_spec()
    if isinstance(scored.result, examples.Classified):
        return messages.InferenceResult(model_spec=spec, classification_result=_classification(scored.result))
    return messages.InferenceResult(model_spec=spec, regression_result=_regression(scored.result))


def _classification(result: examples.Classified) -> messages.ClassificationResult:
    """Write what a classifier said."""
    rows = [
        messages.Classifications(classes=[messages.Class(label=label, score=score) for label, score in row])
        for row in result.rows()
    ]
    return messages.ClassificationResult(classifications=rows)


def _regression(values: Any) -> messages.RegressionResult:
    """Write the values of a regression."""
    return messages.RegressionResult(
        regressions=[messages.Regression(value=value) for value in values.tolist()]
    )
