"""The pin: what the operator writes the fetcher reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serval_contract.models import MAX_VERSION
from serval_contract.pin import Pin, PinError, parse_pin

DIGEST = f"sha256:{'ab' * 32}"


def test_as_a_file() -> None:
    assert Pin(3, DIGEST).dump() == f'{{"version":3,"digest":"{DIGEST}"}}'


@given(st.integers(0, MAX_VERSION))
def test_is_read_as_it_was_written(version: int) -> None:
    pin = Pin(version, DIGEST)
    assert parse_pin(pin.dump().encode()) == pin


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cannot be read"),
        (b"\xff", "cannot be read"),
        (b"[1]", "cannot be read"),
        (b"{}", "cannot be read"),
        (Pin(-1, DIGEST).dump().encode(), "names no version and digest"),
        (Pin(MAX_VERSION + 1, DIGEST).dump().encode(), "names no version and digest"),
        (Pin(True, DIGEST).dump().encode(), "names no version and digest"),
        (Pin(3, "md5:0").dump().encode(), "names no version and digest"),
    ],
)
def test_no_pin(content: bytes, words: str) -> None:
    with pytest.raises(PinError, match=words):
        parse_pin(content)
