"""The behaviors of PredictionService and ModelService: messages in, messages out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NoReturn, TypeVar

import grpc

from serval_serving.models.fleet import Fleet
from serval_serving.server import access, examples
from serval_serving.server.azure import routed_name
from serval_serving.server.inference import Deadline, Inference
from serval_serving.server.keys import HEADER, Keys
from serval_serving.server.metadata import model_metadata, model_status
from serval_serving.server.metrics import CLASSIFY, GRPC, MULTI_INFERENCE, PREDICT, REGRESS
from serval_serving.server.predict import predict, read_target, target_of
from serval_serving.server.reload import reload
from serval_serving.server.spent import Spent, waited
from serval_serving.wire import messages, rpc
from serval_serving.wire.quick import Request, read_request
from serval_serving.wire.status import StatusError, cut_message
from serval_serving.wire.timing import TOLD, WANTED

INTERNAL = "The server failed on this request; its log has the details."

LONGEST_DEADLINE_SECONDS = 86_400.0
"""What lies further away is no deadline: no client waits for a day."""

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Services:
    """The behaviors of both services.

    Parameters
    ----------
    inference:
        What answers.
    fleet:
        The models that it answers with, for those that change which these are.
    keys:
        What callers must show; None for nothing.
    typed:
        Whether outputs of Predict come in typed fields (`float_val`), or as `tensor_content`.
    """

    def __init__(
        self, inference: Inference, fleet: Fleet, keys: Keys | None = None, *, typed: bool = True
    ) -> None:
        self._inference = inference
        self._keys = keys
        self._fleet = fleet
        self._typed = typed

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """Make the handlers for a gRPC server."""
        return rpc.handlers(
            {
                rpc.PREDICT: self.predict,
                rpc.CLASSIFY: self.classify,
                rpc.REGRESS: self.regress,
                rpc.MULTI_INFERENCE: self.multi_inference,
                rpc.GET_MODEL_METADATA: self.get_model_metadata,
                rpc.GET_MODEL_STATUS: self.get_model_status,
                rpc.HANDLE_RELOAD_CONFIG: self.handle_reload_config,
            },
            {rpc.PREDICT: read_request},
        )

    def predict(self, request: Request, context: Any) -> bytes:
        """Answer Predict with the bytes of its reply."""
        name = request.model_spec.name if request.model_spec is not None else ""
        return self._run(request, name, context, PREDICT, self._predict)

    def classify(
        self, request: messages.ClassificationRequest, context: Any
    ) -> messages.ClassificationResponse:
        """Answer Classify."""
        return self._run(request, request.model_spec.name, context, CLASSIFY, self._classify)

    def regress(self, request: messages.RegressionRequest, context: Any) -> messages.RegressionResponse:
        """Answer Regress."""
        return self._run(request, request.model_spec.name, context, REGRESS, self._regress)

    def multi_inference(
        self, request: messages.MultiInferenceRequest, context: Any
    ) -> messages.MultiInferenceResponse:
        """Answer MultiInference."""
        name = request.tasks[0].model_spec.name if request.tasks else ""
        return self._run(request, name, context, MULTI_INFERENCE, self._multi_inference)

    def get_model_metadata(
        self, request: messages.GetModelMetadataRequest, context: Any
    ) -> messages.GetModelMetadataResponse:
        """Answer GetModelMetadata."""
        return _answer(
            context, lambda: model_metadata(self._inference, target_of(request), list(request.metadata_field))
        )

    def get_model_status(
        self, request: messages.GetModelStatusRequest, context: Any
    ) -> messages.GetModelStatusResponse:
        """Answer GetModelStatus."""
        return _answer(context, lambda: model_status(self._inference, target_of(request)))

    def handle_reload_config(
        self, request: messages.ReloadConfigRequest, context: Any
    ) -> messages.ReloadConfigResponse:
        """Answer HandleReloadConfigRequest, once the new models serve or the caller has gone."""

        def answer() -> messages.ReloadConfigResponse:
            self._check_key(context)
            return reload(self._fleet, request, lambda: not context.is_active())

        return _answer(context, answer)

    def _run(
        self,
        request: Any,
        name: str,
        context: Any,
        api: str,
        make: Callable[[Any, Deadline, Any], tuple[str, _T]],
    ) -> _T:
        """Answer with the reply that `make` returns beside the model's name, and count the call."""
        inference, metrics = self._inference, self._inference.metrics
        started = inference.now()
        spent = _spent(context)
        deadline = inference.deadline(time_left(context), spent)
        try:
            self._check_key(context)
            with inference.admitted():
                name, response = make(request, deadline, context)
        except Exception as error:  # noqa: BLE001  every failure must get a status
            code, message = _status(error)
            metrics.ended(name, code)
            self._note(request, context, api, name, code, started)
            _abort(context, code, message)
        seconds = inference.now() - started
        if spent is not None:
            context.set_trailing_metadata(((TOLD, spent.told(waited() + seconds)),))
        metrics.ended(name, grpc.StatusCode.OK)
        metrics.request_latency.observe(seconds * 1e6, name, api, GRPC)
        metrics.request_bytes.add(name, GRPC, amount=_size(request))
        self._note(request, context, api, name, grpc.StatusCode.OK, started)
        return response

    def _note(
        self, request: Any, context: Any, api: str, name: str, code: grpc.StatusCode, started: float
    ) -> None:
        """Write the access log."""
        if access.enabled():
            seconds = self._inference.now() - started
            access.note(context.peer(), api, name, code, seconds, _size(request))

    def _check_key(self, context: Any) -> None:
        """Check the caller's key, where one is wanted."""
        if self._keys is not None:
            self._keys.check(dict(context.invocation_metadata()).get(HEADER))

    def _predict(self, request: Request, deadline: Deadline, context: Any) -> tuple[str, bytes]:
        """Find the model, and predict with it."""
        target = read_target(request.model_spec)
        if not target.name:
            target = replace(target, route=routed_name(context.invocation_metadata()))
        with self._inference.lease(target) as lease:
            return lease.name, predict(self._inference, lease, request, deadline, typed=self._typed)

    def _classify(
        self, request: messages.ClassificationRequest, deadline: Deadline, _context: Any
    ) -> tuple[str, messages.ClassificationResponse]:
        """Run a classification and write the reply."""
        scored = examples.classify(self._inference, target_of(request), request.input, deadline)
        result = _classification(scored.result)
        return scored.name, messages.ClassificationResponse(model_spec=scored.model_spec(), result=result)

    def _regress(
        self, request: messages.RegressionRequest, deadline: Deadline, _context: Any
    ) -> tuple[str, messages.RegressionResponse]:
        """Run a regression and write the reply."""
        scored = examples.regress(self._inference, target_of(request), request.input, deadline)
        result = _regression(scored.result)
        return scored.name, messages.RegressionResponse(model_spec=scored.model_spec(), result=result)

    def _multi_inference(
        self, request: messages.MultiInferenceRequest, deadline: Deadline, _context: Any
    ) -> tuple[str, messages.MultiInferenceResponse]:
        """Run all tasks and write the reply."""
        tasks = [(target_of(task), task.method_name) for task in request.tasks]
        scored = examples.multi_inference(self._inference, tasks, request.input, deadline)
        return scored[0].name, messages.MultiInferenceResponse(results=map(_inference_result, scored))


def _size(request: Any) -> int:
    """Count the bytes of a request."""
    size: int = request.size if isinstance(request, Request) else request.ByteSize()
    return size


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


def _answer(context: Any, make: Callable[[], _T]) -> _T:
    """Answer with what `make` returns, or with the status of what it raises."""
    try:
        return make()
    except Exception as error:  # noqa: BLE001  every failure must get a status
        _abort(context, *_status(error))


def _spent(context: Any) -> Spent | None:
    """Begin to note where the time goes, if the caller wants to know; the wait for this thread is known."""
    wanted = any(key == WANTED for key, _ in context.invocation_metadata())
    return Spent(queue=waited()) if wanted else None


def time_left(context: Any) -> float | None:
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
