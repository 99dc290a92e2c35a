"""The report of a stage: what a stage writes the operator reads, and no foreign text makes it fail."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serval_contract.report_line import MAX_LINE_BYTES
from serval_contract.stage_report import StageFile, StageReport, parse_stage_report

DIGEST = f"sha256:{'ab' * 32}"
FILE = {"name": "model.onnx", "digest": DIGEST, "bytes": 7}
NAMES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
FILES = st.lists(
    st.builds(StageFile, NAMES.filter(bool), st.just(DIGEST), st.integers(0, 2**53 - 1)), max_size=3
).map(tuple)
SMALL = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(-1e9, 1e9) | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=5,
)
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


def nested(levels: int) -> dict[str, Any]:
    return {"a": nested(levels - 1)} if levels else {}


def test_report_as_a_line() -> None:
    line = StageReport("convert", {"layers": 3}, (StageFile("model.onnx", DIGEST, 7),)).dump()
    assert "\n" not in line
    assert json.loads(line) == {
        "serval": "stage",
        "stage": "convert",
        "result": {"layers": 3},
        "files": [FILE],
        "reason": "",
        "message": "",
        "permanent": False,
    }


@given(
    result=st.dictionaries(NAMES, SMALL, max_size=3),
    files=FILES,
    reason=st.sampled_from(["", "NotConvertible", "A1"]),
    message=NAMES,
    permanent=st.booleans(),
)
def test_a_report_is_read_as_it_was_written(
    result: dict[str, Any], files: tuple[StageFile, ...], reason: str, message: str, permanent: bool
) -> None:
    report = StageReport("convert", result, files, reason, message, permanent=permanent)
    assert parse_stage_report(f"a line of the log\n{report.dump()}\n") == report


@given(st.text(max_size=2000))
def test_any_message_fits(text: str) -> None:
    line = StageReport("convert", reason="Failed", message=text * 3, permanent=True).dump()
    assert len(line.encode()) <= MAX_LINE_BYTES
    assert json.loads(line)["reason"] == "Failed"


@pytest.mark.parametrize(
    "report",
    [
        StageReport("convert", {"log": "x" * MAX_LINE_BYTES}),
        StageReport("convert", {"loss": float("nan")}),
        StageReport("convert", {"count": 2**53}),
        StageReport("convert", {"text": "\ud800"}),
        StageReport("convert", nested(9)),
        StageReport("convert", files=(StageFile("a", "sha256:1", 1),)),
        StageReport("convert", files=(StageFile("", DIGEST, 1),)),
    ],
    ids=["long", "no number", "beyond 53 bits", "half a surrogate pair", "deep", "digest", "no name"],
)
def test_a_stage_learns_that_its_report_cannot_be_used(report: StageReport) -> None:
    with pytest.raises(ValueError, match="result"):
        report.dump()


@pytest.mark.parametrize(
    ("fields", "report"),
    [
        ({"stage": 3, "result": [], "files": {}, "reason": 7, "message": []}, StageReport("")),
        ({"reason": "no reason at all"}, StageReport("")),
        ({"reason": "Serving", "message": "a\nb"}, StageReport("", reason="Serving", message="a b")),
        ({"permanent": "yes"}, StageReport("")),
        ({"files": [FILE, {**FILE, "bytes": -1}]}, StageReport("")),
        ({"files": [FILE] * 33}, StageReport("")),
        ({"result": {"a": {"b": 1e400}}}, StageReport("")),
    ],
)
def test_what_a_report_says_in_a_wrong_form_is_left_out(fields: dict[str, Any], report: StageReport) -> None:
    assert parse_stage_report(json.dumps({"serval": "stage", **fields})) == report


@pytest.mark.parametrize("text", ["", "done", "[1]", '{"serval": "fetch", "ok": true}', "[" * 4096])
def test_no_report(text: str) -> None:
    assert parse_stage_report(text) is None


@given(st.dictionaries(st.sampled_from(["stage", "result", "files", "reason", "message"]), ANY))
def test_no_line_makes_it_fail(fields: dict[str, Any]) -> None:
    report = parse_stage_report(json.dumps({"serval": "stage", **fields}))
    assert report is not None
    json.dumps([dict(report.result), report.message]).encode()
