"""Tables of benchmarks in documents."""

from __future__ import annotations


def placed(page: str, text: str, marks: tuple[str, str]) -> str:
    """Put text between the marks of a page; at its end where it has none.

    Parameters
    ----------
    page, text:
        Markdown.
    marks:
        Beginning and end.
    """
    inside = f"{marks[0]}\n\n{text}\n\n{marks[1]}"
    before, begin, rest = page.partition(marks[0])
    if not begin:
        return f"{page.rstrip()}\n\n{inside}\n"
    return before + inside + rest.partition(marks[1])[2]
