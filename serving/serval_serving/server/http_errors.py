"""gRPC status codes as HTTP status codes, and the body of an error."""

from __future__ import annotations

import json

import grpc

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

_STATUSES = {status: code for code, status in reversed(_CODES.items())} | {500: grpc.StatusCode.INTERNAL}


def http_code(code: grpc.StatusCode) -> int:
    """Map a status code as TensorFlow Serving does."""
    return _CODES.get(code, 500)


def code_of_http(status: int) -> grpc.StatusCode:
    """Give the status code that an HTTP status stands for; of several the first of the table."""
    found = _STATUSES.get(status)
    if found is not None:
        return found
    return grpc.StatusCode.OK if status < 400 else grpc.StatusCode.UNKNOWN


def error_body(message: str) -> bytes:
    """Write the body of an error."""
    return json.dumps({"error": message}).encode()
