"""Marks in documents: the text between them is rendered, and an unusable mark is an error."""

from __future__ import annotations

import pytest
from tools.marks import MarkError, asked_for, rendered

pytestmark = pytest.mark.unit


def numbers(first: str, *others: str) -> str:
    if "x" in others:
        raise ValueError("x is no number")
    return " ".join((first, *others))


TABLES = {"numbers": numbers, "letters": lambda: "a b"}


def marks(asked: str, text: str = "") -> str:
    return f"<!-- make generate, {asked}: begin -->\n\n{text}\n\n<!-- make generate, {asked}: end -->"


def test_only_the_text_between_marks_changes() -> None:
    stale = f"before\n{marks('numbers 1 2', '3')}\nbetween\n{marks('letters')}\nafter\n"
    fresh = f"before\n{marks('numbers 1 2', '1 2')}\nbetween\n{marks('letters', 'a b')}\nafter\n"
    assert rendered("page.md", stale, TABLES) == fresh
    assert rendered("page.md", fresh, TABLES) == fresh


def test_a_page_without_marks_stays() -> None:
    assert rendered("page.md", "before\n", TABLES) == "before\n"


def test_what_a_page_asks_for() -> None:
    assert asked_for("page.md", f"{marks('numbers 1 2')}\n{marks('letters')}") == ["numbers 1 2", "letters"]


BEGIN, END = "<!-- make generate, letters: begin -->", "<!-- make generate, letters: end -->"


@pytest.mark.parametrize(
    ("page", "text"),
    [
        (BEGIN, "the mark `letters: begin` has no end"),
        (END, "found the mark `letters: end` where `letters: begin` must stand"),
        (f"{END}\n{BEGIN}", "found the mark `letters: end` where `letters: begin` must stand"),
        (f"{BEGIN}\n{BEGIN}\n{END}", "found the mark `letters: begin` where `letters: end` must stand"),
        (f"{BEGIN}\n{marks('numbers 1')}\n{END}", "`numbers 1: begin` where `letters: end` must stand"),
        (f"{marks('letters')}\n{marks('letters')}", "the mark `letters` stands twice"),
        ("<!-- make generate, letters: start -->", "is no mark of the form"),
        ("<!-- make generate letters: begin -->", "is no mark of the form"),
        (marks("words"), "the mark `words` asks for an unknown table; known are letters, numbers"),
        (marks("letters a"), "the mark `letters a` has the wrong arguments: too many positional arguments"),
        (
            marks("numbers"),
            "the mark `numbers` has the wrong arguments: missing a required argument: 'first'",
        ),
        (marks("numbers 1 x"), "the mark `numbers 1 x` cannot be rendered: x is no number"),
    ],
)
def test_an_unusable_mark_is_an_error(page: str, text: str) -> None:
    with pytest.raises(MarkError) as caught:
        rendered("page.md", page, TABLES)
    assert str(caught.value).startswith("page.md: ")
    assert text in str(caught.value)
