"""gRPC status codes as HTTP status codes, and the body of an error."""

from __future__ import annotations

import json

import grpc

from serval_serving.wire.status import StatusError

TOO_LARGE = "The body is larger than %d bytes."
_TOO_LARGE_STATUS = 413

_CODES = {
    grpc.StatusCode.OK: 200,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}


class BodyTooLargeError(StatusError):
    """The body of a request is larger than the limit; HTTP has a status of its own for that.

    Parameters
    ----------
    limit:
        Bytes.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(grpc.StatusCode.INVALID_ARGUMENT, TOO_LARGE % limit)


def http_status(error: StatusError) -> int:
    """Give the HTTP status of a failure, as TensorFlow Serving maps codes."""
    return _TOO_LARGE_STATUS if isinstance(error, BodyTooLargeError) else _CODES.get(error.code, 500)


def error_body(message: str) -> bytes:
    """Write the body of an error."""
    return json.dumps({"error": message}).encode()
