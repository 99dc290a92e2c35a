"""What a request can end with. The type says what to do; code and text are the server's."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

UNAVAILABLE: Final = "UNAVAILABLE"
DEADLINE_EXCEEDED: Final = "DEADLINE_EXCEEDED"
INTERNAL: Final = "INTERNAL"


class ServingError(Exception):
    """The request was not answered with a result.

    Parameters
    ----------
    code:
        Name of the gRPC status, such as ``NOT_FOUND``; for HTTP the one that the status stands for.
    text:
        The server's words, or what went wrong on the way.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text


class InvalidRequestError(ServingError):
    """The request does not fit the model: names, types, shapes or content. Change the request."""


class NotFoundError(ServingError):
    """The server has no such model, version or path."""


class AccessDeniedError(ServingError):
    """The key is missing or wrong, or does not allow this."""


class OverloadedError(ServingError):
    """The server has more requests than it takes. Slow down."""


class UnavailableError(ServingError):
    """No server was reached, or it cannot serve now. The same request may succeed later."""


class DeadlineExceededError(ServingError):
    """The answer did not come in time."""


_TYPES: Final[Mapping[str, type[ServingError]]] = MappingProxyType(
    {
        "INVALID_ARGUMENT": InvalidRequestError,
        "FAILED_PRECONDITION": InvalidRequestError,
        "OUT_OF_RANGE": InvalidRequestError,
        "UNIMPLEMENTED": InvalidRequestError,
        "NOT_FOUND": NotFoundError,
        "UNAUTHENTICATED": AccessDeniedError,
        "PERMISSION_DENIED": AccessDeniedError,
        "RESOURCE_EXHAUSTED": OverloadedError,
        UNAVAILABLE: UnavailableError,
        DEADLINE_EXCEEDED: DeadlineExceededError,
    }
)

_HTTP_CODES: Final[Mapping[int, str]] = MappingProxyType(
    {
        400: "INVALID_ARGUMENT",
        401: "UNAUTHENTICATED",
        403: "PERMISSION_DENIED",
        404: "NOT_FOUND",
        405: "UNIMPLEMENTED",
        408: DEADLINE_EXCEEDED,
        409: "ABORTED",
        413: "INVALID_ARGUMENT",
        415: "INVALID_ARGUMENT",
        429: "RESOURCE_EXHAUSTED",
        499: "CANCELLED",
        501: "UNIMPLEMENTED",
        502: UNAVAILABLE,
        503: UNAVAILABLE,
        504: DEADLINE_EXCEEDED,
    }
)
"""The code map of TensorFlow Serving's REST API, read backwards, and what proxies add."""


def error_of(code: str, text: str) -> ServingError:
    """Return the error for the gRPC status named `code`."""
    return _TYPES.get(code, ServingError)(code, text)


def http_error(status: int, text: str) -> ServingError:
    """Return the error for the HTTP `status`."""
    return error_of(_HTTP_CODES.get(status, INTERNAL), text)
