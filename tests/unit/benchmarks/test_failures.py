from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from benchmarks import failures
from benchmarks.failure_cases import (
    DECORATOR,
    FAILURES,
    FAULTS,
    KSERVE,
    TESTED_ELSEWHERE,
    Failure,
    Fault,
    declared,
    declared_faults,
)

from serval_operator.reasons import REASONS

ROOT = Path(__file__).parents[3]


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


def lasting(fault: Fault, **more: Any) -> dict[str, Any]:
    told = {"teller": "`Ready` False, `ChildRefused`", "message": "words of the server"}
    return {"test": f"{fault.test}[case]", **told, "after": 0.4, "lasted": 120.0, "recovery": 3.5, **more}


def markdown(notes: Sequence[dict[str, Any]], faults: Sequence[Fault] = FAULTS) -> str:
    """The tables, where each fault that lasts left a note."""
    return failures.markdown([*notes, *(lasting(one) for one in faults)])


def test_every_failure_is_provoked_or_its_row_says_why_not() -> None:
    provoked = {failure.reason for failure in FAILURES}
    assert provoked == {row.name for row in REASONS.values() if row.failure and not row.not_provoked}


def test_what_was_done_distinguishes_the_failures() -> None:
    made = [failure.made for failure in FAILURES]
    assert len(made) == len(set(made))
    assert set(KSERVE) <= set(made)


@pytest.mark.parametrize("failure", FAILURES, ids=lambda one: one.made)
def test_the_test_that_declares_a_failure_waits_for_it(failure: Failure) -> None:
    file, *names = failure.test.split("::")
    body = ast.parse((ROOT / file).read_text(encoding="utf-8")).body
    for name in names:
        found = next(
            one for one in body if isinstance(one, ast.ClassDef | ast.FunctionDef) and one.name == name
        )
        body = found.body
    cases = [one for one in found.decorator_list if DECORATOR not in ast.unparse(one)]
    values = [ast.unparse(one) for one in (*cases, *body)]
    assert any(repr(failure.reason) in value for value in values)


def test_declarations_are_read_from_functions_and_methods() -> None:
    text = """
@pytest.mark.slow
@provokes("A", "one")
@provokes("B", "a server that ends at once")
def test_first(): ...

class TestMore:
    @provokes("C", "three")
    def test_second(self): ...

    def test_third(self): ...
"""
    found = list(declared(Path("tests/x.py"), text))
    assert [(one.test, one.reason, one.made) for one in found] == [
        ("tests/x.py::test_first", "A", "one"),
        ("tests/x.py::test_first", "B", "a server that ends at once"),
        ("tests/x.py::TestMore::test_second", "C", "three"),
    ]
    assert [bool(one.kserve) for one in found] == [False, True, False]


def test_faults_are_read_from_functions_and_methods() -> None:
    text = """
@lasts("a")
def test_first(): ...

class TestMore:
    @lasts("b")
    @pytest.mark.slow
    def test_second(self): ...

    @provokes("C", "c")
    def test_third(self): ...
"""
    assert list(declared_faults(Path("tests/x.py"), text)) == [
        Fault("tests/x.py::test_first", "a"),
        Fault("tests/x.py::TestMore::test_second", "b"),
    ]


def test_what_is_broken_distinguishes_the_faults() -> None:
    assert len({fault.broken for fault in FAULTS}) == len(FAULTS) > 0


def test_every_failure_that_is_not_provoked_names_its_test() -> None:
    assert set(TESTED_ELSEWHERE) == {row.name for row in REASONS.values() if row.not_provoked}


@pytest.mark.parametrize("reason", TESTED_ELSEWHERE)
def test_what_is_not_provoked_is_tested_elsewhere(reason: str) -> None:
    text = (ROOT / TESTED_ELSEWHERE[reason]).read_text(encoding="utf-8")
    assert re.search(rf"\b{reason}\b", text)


def test_the_tables_hold_every_failure_and_kserves_words_beside_ours() -> None:
    text = markdown([note(one) for one in FAILURES])
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    beside = [one for one in FAILURES if one.kserve]
    assert len(rows) == len(FAILURES) + len(beside) + len(FAULTS) + 3 * 2
    assert "| all GPUs are taken | `AcceleratorBusy` | words of AcceleratorBusy | False |  | 1.2 s |" in rows
    assert any("minimum availability" in row and "words of CrashLoop" in row for row in rows)


def test_a_fault_that_lasts_has_a_row() -> None:
    text = markdown([note(one) for one in FAILURES])
    said = "`Ready` False, `ChildRefused`: words of the server"
    assert f"| {FAULTS[0].broken} | 120.0 s | {said} | 0.4 s | 3.5 s |" in text.splitlines()


def test_a_failure_that_was_not_noted_ends_it() -> None:
    with pytest.raises(SystemExit, match=f"left no note of {FAILURES[0].reason}"):
        markdown([note(one) for one in FAILURES[1:]])


def test_a_fault_that_was_not_noted_ends_it() -> None:
    # What the test noted of a failure is no note of the fault that lasts.
    notes = [*(note(one) for one in FAILURES), note(Failure(FAULTS[0].test, "ChildRefused", "x"))]
    with pytest.raises(SystemExit, match=f"{FAULTS[0].test} left no note of a fault that lasts"):
        markdown(notes, FAULTS[1:])


def test_of_two_notes_the_first_counts_and_of_another_reason_none() -> None:
    other = note(FAILURES[0], reason="Progressing", message="no")
    notes = [other, note(FAILURES[0], message="one"), note(FAILURES[0], message="two")]
    text = markdown([*notes, *(note(one) for one in FAILURES[1:])])
    assert f"`{FAILURES[0].reason}` | one |" in text
    assert "| two |" not in text


def test_messages_cannot_break_the_table() -> None:
    assert failures.cell("a|b\n<c>  `d`") == r"a\|b \<c> \`d\`"
    long = failures.cell("word " * 200)
    assert long.endswith("word ...")
    assert len(long) <= failures.LONGEST + 4
    assert failures.cell(f"in {Path.home()}/bin") == "in ~/bin"


def test_what_took_no_time_is_not_said_to_have_taken_none() -> None:
    text = markdown([note(one, seconds=0.0) for one in FAILURES])
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
    for fault in FAULTS:
        assert f"| {fault.broken} | " in page
