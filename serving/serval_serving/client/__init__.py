"""Python clients of a served model, for gRPC and for HTTP. They load neither TensorFlow nor the server."""

from serval_serving.client.aio_client import AsyncGrpcClient
from serval_serving.client.calls import Tls
from serval_serving.client.errors import (
    AccessDeniedError,
    DeadlineExceededError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    ServingError,
    UnavailableError,
)
from serval_serving.client.grpc_client import GrpcClient
from serval_serving.client.http_client import HttpClient
from serval_serving.client.replies import ModelMetadata, VersionStatus
from serval_serving.client.timing import Timing

__all__ = [
    "AccessDeniedError",
    "AsyncGrpcClient",
    "DeadlineExceededError",
    "GrpcClient",
    "HttpClient",
    "InvalidRequestError",
    "ModelMetadata",
    "NotFoundError",
    "OverloadedError",
    "ServingError",
    "Timing",
    "Tls",
    "UnavailableError",
    "VersionStatus",
]
