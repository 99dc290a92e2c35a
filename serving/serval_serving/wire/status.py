"""How a request ends: a gRPC status code and a text for the caller."""

from __future__ import annotations

import grpc

MAX_GRPC_MESSAGE = 1024
"""Longer texts are cut, as TensorFlow Serving cuts them: they travel in a trailer of limited size."""

_CUT_MARK = "...TRUNCATED"

_BY_NUMBER: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


class StatusError(Exception):
    """A request, or the loading of a model, that failed in a way its caller should learn of.

    Parameters
    ----------
    code:
        The gRPC status code.
    message:
        What went wrong, for the caller. Never holds payloads.
    """

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return status_text(self.code, self.message)


def invalid(message: str) -> StatusError:
    """Make the error for a request that is wrong in itself."""
    return StatusError(grpc.StatusCode.INVALID_ARGUMENT, message)


def code_of(number: int) -> grpc.StatusCode:
    """Turn a number (of `tensorflow.error.Code`, which are gRPC's) into a code; unknown ones are UNKNOWN."""
    return _BY_NUMBER.get(number, grpc.StatusCode.UNKNOWN)


def number_of(code: grpc.StatusCode) -> int:
    """Give the number of a code."""
    number: int = code.value[0]
    return number


def status_text(code: grpc.StatusCode, message: str) -> str:
    """Spell a status as TensorFlow Serving prints it: `Not found: ...`, `Invalid argument: ...`."""
    return f"{code.name.replace('_', ' ').capitalize()}: {message}"


def cut_message(message: str) -> str:
    """Cut a text to what a gRPC trailer may hold."""
    if len(message) <= MAX_GRPC_MESSAGE:
        return message
    return message[:MAX_GRPC_MESSAGE] + _CUT_MARK
