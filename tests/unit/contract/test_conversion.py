"""The key of the cache of conversions, and the memory that a conversion needs."""

from __future__ import annotations

import math
from typing import Any

import pytest

from serval_contract.conversion_key import conversion_key
from serval_contract.conversion_memory import GIB, needed_bytes
from serval_contract.conversion_reasons import CONVERSION_REASONS
from serval_contract.stage_report import REASON

SOURCE = "sha256:" + "a" * 64
OPTIONS = {"quantization": "Int8", "min-cosine": 0.95, "inputs": [{"name": "x:0", "shape": [1, 8]}]}
KEY = "0c58169189538335f0e284db939a67b42537eeef2c9bbfade6d1a579a42ea362"


def test_golden() -> None:
    # A key that changes by mistake makes every model be converted again.
    assert conversion_key(SOURCE, OPTIONS, "1") == KEY


@pytest.mark.parametrize(
    "same",
    [
        dict(reversed(OPTIONS.items())),
        {**OPTIONS, "calibration": None},
        {**OPTIONS, "inputs": ({"name": "x:0", "shape": (1.0, 8)},)},
    ],
)
def test_equal_options_have_one_key(same: dict[str, Any]) -> None:
    assert conversion_key(SOURCE, same, "1") == KEY


@pytest.mark.parametrize(
    ("source", "options", "converter"),
    [
        ("sha256:" + "b" * 64, OPTIONS, "1"),
        (SOURCE, {**OPTIONS, "quantization": "Float"}, "1"),
        (SOURCE, {**OPTIONS, "min-cosine": True}, "1"),
        (SOURCE, OPTIONS, "2"),
    ],
)
def test_everything_counts(source: str, options: dict[str, Any], converter: str) -> None:
    assert conversion_key(source, options, converter) != KEY


@pytest.mark.parametrize("value", [math.nan, object(), {1: 2}, b"bytes"])
def test_what_is_no_json_has_no_key(value: object) -> None:
    with pytest.raises(ValueError, match="no JSON data"):
        conversion_key(SOURCE, {"option": value})


@pytest.mark.parametrize(
    ("parameters", "gib"),
    [(25_600_000, 2), (8_100_000, 2), (60_400_000, 3), (138_400_000, 5)],
)
def test_memory_of_the_networks(parameters: int, gib: int) -> None:
    assert needed_bytes(4 * parameters) == gib * GIB
    assert needed_bytes(4 * parameters, frozen=True) == (gib + 0.5) * GIB


def test_reasons_are_written_as_reports_want_them() -> None:
    assert all(REASON.fullmatch(reason) for reason in CONVERSION_REASONS)
