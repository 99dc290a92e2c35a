from __future__ import annotations

import grpc
import pytest

from serval_serving.wire.status import StatusError, code_of, cut_message, invalid, status_text


def test_statuses_are_spelled_as_tensorflow_serving_does() -> None:
    assert status_text(grpc.StatusCode.NOT_FOUND, "x") == "Not found: x"
    assert str(invalid("x")) == "Invalid argument: x"
    assert str(StatusError(grpc.StatusCode.UNKNOWN, "x")) == "Unknown: x"


@pytest.mark.parametrize(
    ("number", "code"),
    [(0, grpc.StatusCode.OK), (3, grpc.StatusCode.INVALID_ARGUMENT), (99, grpc.StatusCode.UNKNOWN)],
)
def test_numbers_are_codes(number: int, code: grpc.StatusCode) -> None:
    assert code_of(number) is code


def test_long_messages_are_cut() -> None:
    assert cut_message("x" * 1024) == "x" * 1024
    assert cut_message("x" * 1025) == "x" * 1024 + "...TRUNCATED"
