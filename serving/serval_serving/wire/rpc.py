"""RPCs of the predict API: names, server handlers and client callables, without generated stubs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import grpc

from serval_serving.wire import messages

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"


class Method(NamedTuple):
    """One unary RPC: its service, its name, and the classes of its request and reply."""

    service: str
    name: str
    request: Any
    response: Any

    @property
    def path(self) -> str:
        """The HTTP/2 path of the call."""
        return f"/{self.service}/{self.name}"


PREDICT = Method(PREDICTION_SERVICE, "Predict", messages.PredictRequest, messages.PredictResponse)
CLASSIFY = Method(
    PREDICTION_SERVICE, "Classify", messages.ClassificationRequest, messages.ClassificationResponse
)
REGRESS = Method(PREDICTION_SERVICE, "Regress", messages.RegressionRequest, messages.RegressionResponse)
MULTI_INFERENCE = Method(
    PREDICTION_SERVICE, "MultiInference", messages.MultiInferenceRequest, messages.MultiInferenceResponse
)
GET_MODEL_METADATA = Method(
    PREDICTION_SERVICE,
    "GetModelMetadata",
    messages.GetModelMetadataRequest,
    messages.GetModelMetadataResponse,
)
GET_MODEL_STATUS = Method(
    MODEL_SERVICE, "GetModelStatus", messages.GetModelStatusRequest, messages.GetModelStatusResponse
)

HANDLE_RELOAD_CONFIG = Method(
    MODEL_SERVICE, "HandleReloadConfigRequest", messages.ReloadConfigRequest, messages.ReloadConfigResponse
)


def handlers(behaviors: Mapping[Method, Callable[..., Any]]) -> list[grpc.GenericRpcHandler]:
    """Make the handlers of a server.

    Methods of a service that are not named answer UNIMPLEMENTED, as gRPC does by itself.

    Parameters
    ----------
    behaviors:
        Each takes a request and a `grpc.ServicerContext`, and returns the reply.
    """
    services: dict[str, dict[str, grpc.RpcMethodHandler]] = {}
    for method, behavior in behaviors.items():
        services.setdefault(method.service, {})[method.name] = grpc.unary_unary_rpc_method_handler(
            behavior,
            request_deserializer=method.request.FromString,
            response_serializer=method.response.SerializeToString,
        )
    return [grpc.method_handlers_generic_handler(name, found) for name, found in services.items()]


def multicallable(channel: Any, method: Method) -> Any:
    """Make the callable of one RPC on a `grpc.Channel` or a `grpc.aio.Channel`."""
    return channel.unary_unary(
        method.path,
        request_serializer=method.request.SerializeToString,
        response_deserializer=method.response.FromString,
    )
