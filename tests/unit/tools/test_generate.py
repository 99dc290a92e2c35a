"""Generated parts of the documents: each is up to date, and a missing mark is an error."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools import generate
from tools.generate import PARTS, Part

pytestmark = pytest.mark.unit

PART = Part("page.md", "numbers", lambda: "1 2 3")
BEGIN, END = PART.marks
STALE = f"before\n{BEGIN}\n\n1 2\n\n{END}\nafter\n"
FRESH = f"before\n{BEGIN}\n\n1 2 3\n\n{END}\nafter\n"


def test_the_documents_are_up_to_date() -> None:
    assert generate.generate(PARTS, generate.ROOT, check=True, files=generate.FILES) == ""


def test_the_table_of_reasons_has_every_reason_with_its_words() -> None:
    text = generate.reasons()
    assert (
        "| `OutOfMemory` | `ModelFetched`, `ModelLoaded` | a container used more memory than its limit | "
        "raise `spec.resources.limits` |"
    ) in text
    assert text.count("\n| `") == len(generate.REASONS)
    assert "`ModelDigestMismatch`" in text.splitlines()[-1]


def test_only_the_text_between_the_marks_changes() -> None:
    assert PART.placed(STALE) == FRESH
    assert PART.placed(FRESH) == FRESH


@pytest.mark.parametrize(
    "page", ["", BEGIN, END, f"{END}\n{BEGIN}\n", f"{FRESH}{FRESH}", f"{BEGIN}\n{FRESH}"]
)
def test_marks_that_are_not_there_once_and_in_order_are_an_error(page: str) -> None:
    with pytest.raises(ValueError, match=r"page\.md must have the lines"):
        PART.placed(page)


def test_a_check_shows_the_difference_and_writes_nothing(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(STALE)
    found = generate.generate([PART], tmp_path, check=True)
    assert "-1 2\n+1 2 3\n" in found
    assert page.read_text() == STALE


def test_a_run_writes_and_the_next_one_finds_nothing(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(STALE)
    assert generate.generate([PART], tmp_path, check=False)
    assert page.read_text() == FRESH
    assert generate.generate([PART], tmp_path, check=False) == ""


def test_main_fails_a_check_only_where_something_differs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "page.md").write_text(STALE)
    monkeypatch.setattr(generate, "PARTS", (PART,))
    monkeypatch.setattr(generate, "FILES", {})
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    assert generate.main(["--check"]) == 1
    assert "make generate" in capsys.readouterr().err
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0


def test_a_missing_file_is_a_difference_and_is_written(tmp_path: Path) -> None:
    files = {"kind.yaml": lambda: "kind: Toy\n"}
    assert "+kind: Toy\n" in generate.generate([], tmp_path, check=True, files=files)
    assert not (tmp_path / "kind.yaml").exists()
    assert generate.generate([], tmp_path, check=False, files=files)
    assert (tmp_path / "kind.yaml").read_text() == "kind: Toy\n"
    assert generate.generate([], tmp_path, check=True, files=files) == ""


def test_fields_that_start_no_rollout_are_named_by_their_blocks() -> None:
    text = generate.no_rollout()
    assert "`spec.autoscaling`, `spec.disruption`" in text
    assert "`spec.rollout.strategy`" in text
    assert "trigger" not in text
