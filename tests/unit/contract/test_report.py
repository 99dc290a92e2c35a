"""The fetcher's report: what one side writes the other side reads, and no foreign text makes it fail."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serval_contract.reasons import FETCH_REASONS
from serval_contract.report import FetchFailure, FetchReport, Tensor, parse_report

DIGEST = f"sha256:{'ab' * 32}"
NAMES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
TENSORS = st.lists(
    st.builds(Tensor, NAMES, NAMES, st.none() | st.lists(st.integers(-1, 2**53 - 1), max_size=4).map(tuple)),
    max_size=3,
).map(tuple)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


def test_success_as_a_line() -> None:
    shapes = (Tensor("images", "DT_STRING", (-1,)), Tensor("any", "DT_FLOAT", None))
    line = FetchReport(3, DIGEST, 752_000, 0.81234, shapes, (Tensor("n", "DT_INT64", ()),)).dump()
    assert "\n" not in line
    assert json.loads(line) == {
        "serval": "fetch",
        "ok": True,
        "version": 3,
        "digest": DIGEST,
        "bytes": 752_000,
        "seconds": 0.812,
        "inputs": [
            {"name": "images", "dtype": "DT_STRING", "shape": [-1]},
            {"name": "any", "dtype": "DT_FLOAT", "shape": None},
        ],
        "outputs": [{"name": "n", "dtype": "DT_INT64", "shape": []}],
    }


def test_failure_as_a_line() -> None:
    line = FetchFailure("ModelNotFound", "nothing\nthere \x1b[31m", permanent=True).dump()
    assert json.loads(line) == {
        "serval": "fetch",
        "ok": False,
        "reason": "ModelNotFound",
        "message": "nothing there  [31m",
        "permanent": True,
    }


@given(
    version=st.integers(0, 2**53 - 1),
    size=st.integers(0, 2**53 - 1),
    thousandths=st.integers(0, 10**7),
    tensors=st.none() | st.tuples(TENSORS, TENSORS),
    pinned=st.booleans(),
)
def test_a_success_is_read_as_it_was_written(
    version: int, size: int, thousandths: int, tensors: tuple[Any, Any] | None, *, pinned: bool
) -> None:
    report = FetchReport(version, DIGEST, size, thousandths / 1000, *(tensors or ()), pinned=pinned)
    assert parse_report(f"a line of the log\n{report.dump()}\n") == report


@given(st.sampled_from(sorted(FETCH_REASONS)), NAMES, st.booleans())
def test_a_failure_is_read_as_it_was_written(reason: str, message: str, permanent: bool) -> None:
    failure = FetchFailure(reason, message, permanent)
    assert parse_report(failure.dump()) == failure


def test_the_signature_is_left_out_if_it_does_not_fit() -> None:
    many = tuple(Tensor(f"input_{number}", "DT_FLOAT", (1, 2, 3)) for number in range(100))
    line = FetchReport(3, DIGEST, 1, 0.1, many, ()).dump()
    assert line == FetchReport(3, DIGEST, 1, 0.1).dump()
    assert set(json.loads(line)) == {"serval", "ok", "version", "digest", "bytes", "seconds"}


@given(st.text(max_size=3000))
def test_any_message_fits(text: str) -> None:
    line = FetchFailure("ModelInvalid", text * 3, permanent=True).dump()
    assert len(line.encode()) < 1100
    assert json.loads(line)["reason"] == "ModelInvalid"


def test_a_long_message_keeps_its_beginning() -> None:
    line = FetchFailure("ModelInvalid", "begin" + "é" * 5000, permanent=True).dump()
    message = json.loads(line)["message"]
    assert message.startswith("beginé")
    assert message.endswith("...")
    assert len(json.dumps(message)) <= 1000


@pytest.mark.parametrize(
    ("fields", "failure"),
    [
        ({"reason": "Serving"}, FetchFailure("", "", permanent=False)),
        ({"reason": ["ModelInvalid"]}, FetchFailure("", "", permanent=False)),
        ({"reason": "ModelInvalid", "permanent": "yes"}, FetchFailure("ModelInvalid", "", permanent=False)),
        ({"message": 3}, FetchFailure("", "3", permanent=False)),
    ],
)
def test_a_failure_that_says_strange_things(fields: dict[str, Any], failure: FetchFailure) -> None:
    assert parse_report(json.dumps({"serval": "fetch", **fields})) == failure


@pytest.mark.parametrize("text", ["", "fetched", "[1]", '{"serval": "other", "ok": true}', "[" * 4096])
def test_no_report(text: str) -> None:
    assert parse_report(text) is None


@given(st.dictionaries(st.sampled_from(["ok", "version", "digest", "bytes", "seconds", "inputs"]), JSON))
def test_no_line_makes_it_fail(fields: dict[str, Any]) -> None:
    assert parse_report(json.dumps({"serval": "fetch", **fields})) is not None
