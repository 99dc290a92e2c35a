"""Quantities, as Kubernetes' own parser reads them."""

from __future__ import annotations

from decimal import Decimal

import pytest

from serval_contract.quantity import parse_quantity, parse_whole


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("1500", 1500),
        ("500m", "0.5"),
        ("1k", 1000),
        ("1.5Gi", 3 * 2**29),
        ("20G", 20 * 10**9),
        ("1e3", 1000),
        ("1E3", 1000),
        ("1.5e-1", "0.15"),
        ("1E", 10**18),
        ("1Ei", 2**60),
        ("2Pi", 2 * 2**50),
    ],
)
def test_quantities(text: str, number: str | int) -> None:
    assert parse_quantity(text) == Decimal(number)
    assert parse_whole(text) == int(Decimal(number))


@pytest.mark.parametrize(
    "text",
    ["", "K", "1K", "20GB", "-1", "+1", " 1", "1 ", "1.", ".5", "1,5", "\u0661", "1e100", "NaN", "9" * 41],
)
def test_no_quantities(text: str) -> None:
    assert parse_quantity(text) is None
    assert parse_whole(text) == 0
