"""``python -m benchmarks failures``: provokes failures on the lab and shows how ModelDeployments report them.

End-to-end tests provoke the failures and check that the cause is named and that the cure helps. Integration
tests let faults last, on a control plane without nodes. Both note what they saw, and the tables of
docs/failures.md are written from these notes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.failure_cases import FAILURES, FAULTS, TESTED_ELSEWHERE, Failure, Fault
from benchmarks.pages import placed
from serval_operator.reasons import REASONS
from support import whole
from support.ledger import VARIABLE

ROOT = Path(__file__).resolve().parents[1]
NOTES = ROOT / "build" / "benchmarks" / "failures.jsonl"
DOCS = ROOT / "docs" / "failures.md"
MARKS = ("<!-- benchmarks failures: begin -->", "<!-- benchmarks failures: end -->")
LONGEST = 420
"""Characters of a message that the table shows."""


def main(arguments: Sequence[str] = ()) -> None:
    """Provoke the failures, print the tables, and write them into the docs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks failures", description=__doc__)
    parser.add_argument("--notes", type=Path, help="notes of an earlier run, in place of a run")
    parser.add_argument("--write", action="store_true", help=f"write the tables into docs/{DOCS.name} too")
    options = parser.parse_args(arguments)
    text = markdown(read(options.notes or make(NOTES)))
    print(text)
    if options.write:
        DOCS.write_text(placed(DOCS.read_text(), text, MARKS))


def make(notes: Path) -> Path:
    """Run the tests that provoke the failures. They need what `make e2e` needs."""
    notes.parent.mkdir(parents=True, exist_ok=True)
    notes.unlink(missing_ok=True)
    tests = dict.fromkeys(one.test for one in (*FAILURES, *FAULTS))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *tests],
        cwd=ROOT,
        env={**os.environ, VARIABLE: str(notes), whole.VARIABLE: "1"},
        check=False,
    )
    if done.returncode:
        raise SystemExit("a test failed, so the tables would be wrong")
    return notes


def read(notes: Path) -> list[dict[str, Any]]:
    """Return the notes, in the order in which they were made."""
    return [json.loads(line) for line in notes.read_text().splitlines()]


def markdown(notes: Sequence[Mapping[str, Any]]) -> str:
    """Return the tables that need notes, as they stand in the docs.

    Raises
    ------
    SystemExit
        A failure or a fault has no note.
    """
    found = [(failure, _note(failure, notes)) for failure in FAILURES]
    said = [
        [
            failure.made,
            f"`{note['reason']}`",
            cell(note["message"]),
            note["available"],
            "yes" if note["stalled"] else "",
            _seconds(note["seconds"]),
        ]
        for failure, note in found
    ]
    beside = [
        [failure.made, failure.kserve, f"`Ready` False, `{note['reason']}`: “{cell(note['message'])}”"]
        for failure, note in found
        if failure.kserve
    ]
    lasting = [_lasting(fault, notes) for fault in FAULTS]
    parts = [
        "## What a ModelDeployment says",
        table(["what was done", "`Ready` is False:", "message", "`Available`", "`Stalled`", "after"], said),
        "## The same, in KServe's words and in Serval's",
        table(["what was done", "KServe, after 30 s", "Serval"], beside),
        "## Faults that last",
        table(["what was broken", "for", "what was said", "after", "well again after"], lasting),
    ]
    return "\n\n".join(parts)


def not_provoked() -> str:
    """Return the table of failures that no test provokes on the lab."""
    rows = [
        [f"`{row.name}`", row.not_provoked, f"`{TESTED_ELSEWHERE[row.name]}`"]
        for row in REASONS.values()
        if row.not_provoked
    ]
    return table(["reason", "why", "tested in"], rows)


def cell(text: str) -> str:
    """Return a message as a cell of a table: on one line, cut to `LONGEST`, with markup escaped.

    The lab's programs are in the home folder of the user who ran it; its path is not published.
    """
    flat = " ".join(text.split()).replace(str(Path.home()), "~")
    cut = flat if len(flat) <= LONGEST else f"{flat[:LONGEST].rstrip()} ..."
    for mark in ("\\", "|", "<", "*", "_", "`"):
        cut = cut.replace(mark, f"\\{mark}")
    return cut


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *rows])


def _seconds(value: float) -> str:
    """A time that was noted in tenths of a second."""
    return f"{value:.1f} s" if value else "below 0.1 s"


def _note(failure: Failure, notes: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    for note in notes:
        if _is_of(note, failure) and note.get("reason") == failure.reason:
            return note
    raise SystemExit(f"{failure.test} left no note of {failure.reason}")


def _lasting(fault: Fault, notes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Row of a fault that lasts."""
    for note in notes:
        if _is_of(note, fault) and "lasted" in note:
            said = f"{note['teller']}: {cell(note['message'])}"
            lasted, after, recovery = (_seconds(note[key]) for key in ("lasted", "after", "recovery"))
            return [fault.broken, lasted, said, after, recovery]
    raise SystemExit(f"{fault.test} left no note of a fault that lasts")


def _is_of(note: Mapping[str, Any], case: Failure | Fault) -> bool:
    test: str = note["test"]
    return test.partition("[")[0] == case.test
