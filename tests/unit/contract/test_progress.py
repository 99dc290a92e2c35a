"""The progress page: what a stage writes the operator reads, within bounds."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serval_contract.progress import MAX_PAGE_BYTES, Progress, parse_progress

NAMES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
COUNTS = st.none() | st.integers(0, 2**53 - 1)


@given(st.builds(Progress, COUNTS, COUNTS, NAMES, NAMES, NAMES))
def test_a_page_is_read_as_it_was_written(progress: Progress) -> None:
    assert parse_progress(progress.dump()) == progress


@given(st.text(max_size=5000), st.text(max_size=500))
def test_any_page_is_small(message: str, unit: str) -> None:
    page = Progress(2**53 - 1, 2**53 - 1, unit, message, unit).dump()
    assert len(page.encode()) <= MAX_PAGE_BYTES
    assert parse_progress(page) is not None


@pytest.mark.parametrize(
    ("fields", "progress"),
    [
        ({}, Progress()),
        ({"step": -1, "steps": 2.5, "unit": "x" * 33, "message": 1, "stage": None}, Progress()),
        ({"step": True, "message": "a\nb", "more": 1}, Progress(message="a b")),
    ],
)
def test_what_a_page_says_in_a_wrong_form_is_left_out(fields: dict[str, Any], progress: Progress) -> None:
    assert parse_progress(json.dumps(fields)) == progress


@pytest.mark.parametrize("page", ["", "[]", "3", "{", "[" * 4000, json.dumps({"message": "x" * 5000})])
def test_no_page(page: str) -> None:
    assert parse_progress(page) is None


@pytest.mark.parametrize(
    ("progress", "words"),
    [
        (Progress(), ""),
        (Progress(3, 10, "epochs", "loss 0.2"), "3 of 10 epochs: loss 0.2"),
        (Progress(3, message="loss 0.2"), "3 steps: loss 0.2"),
        (Progress(None, 10, message="packing"), "packing"),
    ],
)
def test_words(progress: Progress, words: str) -> None:
    assert progress.words() == words
