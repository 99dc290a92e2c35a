from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from benchmarks import failures
from benchmarks.failure_cases import FAILURES, NOT_MADE, Failure

from serval_contract.reasons import FETCH_REASONS
from serval_operator import constants

ROOT = Path(__file__).parents[3]
NO_FAILURE = {"DeviceFree", "RuntimeChanged"}
"""Reasons of families of failures that are none."""


def failure_reasons() -> set[str]:
    """Reasons of failures: those that constants.py lists under its headings, and those of the fetcher."""
    source = Path(constants.__file__).read_text(encoding="utf-8")
    families = "spec|capacity|pods|fetch|load|rollout|children"
    sections = re.findall(
        rf"^# --- reasons: (?:{families}) .*?(?=^# ---|\Z)", source, flags=re.MULTILINE | re.DOTALL
    )
    listed = re.findall(r'^[A-Z_]+: Final = "([A-Za-z]+)"', "".join(sections), flags=re.MULTILINE)
    return {*listed, *FETCH_REASONS}


def note(failure: Failure, **more: Any) -> dict[str, Any]:
    return {
        "test": f"{failure.test}[case]",
        "status": "False",
        "reason": failure.reason,
        "message": f"words of {failure.reason}",
        "available": "False",
        "stalled": False,
        "seconds": 1.25,
        **more,
    }


def test_every_failure_is_made_or_it_is_said_why_not() -> None:
    made = {failure.reason for failure in FAILURES}
    assert made | set(NOT_MADE) == failure_reasons() - NO_FAILURE
    assert not made & set(NOT_MADE)


@pytest.mark.parametrize("failure", FAILURES, ids=lambda one: one.made)
def test_the_test_that_makes_it_is_there(failure: Failure) -> None:
    file, *names = failure.test.split("::")
    text = (ROOT / file).read_text(encoding="utf-8")
    kinds = ["class"] * (len(names) - 1) + ["def"]
    for kind, name in zip(kinds, names, strict=True):
        assert re.search(rf"^ *{kind} {name}\b", text, flags=re.MULTILINE), name
    assert f'"{failure.reason}"' in text


@pytest.mark.parametrize("reason", NOT_MADE)
def test_what_is_said_not_to_be_made_is_tested_elsewhere(reason: str) -> None:
    _, test = NOT_MADE[reason]
    assert re.search(rf"\b{reason}\b", (ROOT / test).read_text(encoding="utf-8"))


def test_the_tables_hold_every_failure_and_kserves_words_beside_ours() -> None:
    text = failures.markdown([note(one) for one in FAILURES])
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    beside = [one for one in FAILURES if one.kserve]
    assert len(rows) == len(FAILURES) + len(NOT_MADE) + len(beside) + 2 * 3
    assert "| all GPUs are taken | `AcceleratorBusy` | words of AcceleratorBusy | False |  | 1.2 s |" in rows
    assert any("minimum availability" in row and "words of CrashLoop" in row for row in rows)


def test_a_failure_that_was_not_noted_ends_it() -> None:
    with pytest.raises(SystemExit, match="left no note of UnknownRuntime"):
        failures.markdown([note(one) for one in FAILURES[1:]])


def test_of_two_notes_the_first_counts_and_of_another_reason_none() -> None:
    other = note(FAILURES[0], reason="Progressing", message="no")
    notes = [other, note(FAILURES[0], message="one"), note(FAILURES[0], message="two")]
    text = failures.markdown([*notes, *(note(one) for one in FAILURES[1:])])
    assert f"`{FAILURES[0].reason}` | one |" in text
    assert "two" not in text.partition("Not made")[0].splitlines()[4]


def test_messages_cannot_break_the_table() -> None:
    assert failures.cell("a|b\n<c>  `d`") == r"a\|b \<c> \`d\`"
    long = failures.cell("word " * 200)
    assert long.endswith("word ...")
    assert len(long) <= failures.LONGEST + 4
    assert failures.cell(f"in {Path.home()}/bin") == "in ~/bin"


def test_what_took_no_time_is_not_said_to_have_taken_none() -> None:
    text = failures.markdown([note(one, seconds=0.0) for one in FAILURES])
    assert "| 0.0 s |" not in text
    assert "| below 0.1 s |" in text


def test_notes_are_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_text("".join(json.dumps({"n": number}) + "\n" for number in range(2)))
    assert failures.read(path) == [{"n": 0}, {"n": 1}]


def test_the_marks_stand_in_the_docs() -> None:
    page = failures.DOCS.read_text()
    assert [page.count(mark) for mark in failures.MARKS] == [1, 1]


def test_the_tables_in_the_docs_are_of_these_failures() -> None:
    page = failures.DOCS.read_text().partition(failures.MARKS[0])[2]
    for failure in FAILURES:
        assert f"| {failure.made} | `{failure.reason}` |" in page
