"""Marks in documents, between which text is generated.

The opening mark ``<!-- make generate, fields ModelDeployment spec.model: begin -->`` asks for the table
``fields`` with the arguments ``ModelDeployment`` and ``spec.model``. The closing mark has ``end`` in place of
``begin``.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping

Table = Callable[..., str]
"""Renders a table from the arguments of a mark. It raises ValueError if it cannot use them."""

_MARK = re.compile(r"<!-- make generate, (\S+(?: \S+)*): (begin|end) -->")
_START = "<!-- make generate"


class MarkError(Exception):
    """A mark in a document cannot be used; the text names both."""


def rendered(path: str, page: str, tables: Mapping[str, Table]) -> str:
    """Return a page with the text between its marks rendered.

    Parameters
    ----------
    path:
        Path of the page, for errors.
    tables:
        Tables by the first word of a mark.

    Raises
    ------
    MarkError
        A mark is misspelled, has no counterpart, stands twice, or asks for something unknown.
    """
    parts: list[str] = []
    seen: set[str] = set()
    position, open_mark = 0, ""
    for mark in _marks(path, page):
        asked, place = mark[1], mark[2]
        expected = f"{open_mark}: end" if open_mark else f"{asked}: begin"
        if f"{asked}: {place}" != expected:
            raise MarkError(f"{path}: found the mark `{asked}: {place}` where `{expected}` must stand")
        if place == "begin":
            if asked in seen:
                raise MarkError(f"{path}: the mark `{asked}` stands twice")
            seen.add(asked)
            parts += [page[position : mark.end()], f"\n\n{_text(path, asked, tables)}\n\n"]
            open_mark = asked
        else:
            position, open_mark = mark.start(), ""
    if open_mark:
        raise MarkError(f"{path}: the mark `{open_mark}: begin` has no end")
    return "".join([*parts, page[position:]])


def asked_for(path: str, page: str) -> list[str]:
    """Return what the marks of a page ask for, such as ``fields ModelDeployment spec.model``, in order.

    Raises
    ------
    MarkError
        A mark is misspelled.
    """
    return [mark[1] for mark in _marks(path, page) if mark[2] == "begin"]


def _text(path: str, asked: str, tables: Mapping[str, Table]) -> str:
    name, *arguments = asked.split(" ")
    if name not in tables:
        known = ", ".join(sorted(tables))
        raise MarkError(f"{path}: the mark `{asked}` asks for an unknown table; known are {known}")
    try:
        inspect.signature(tables[name]).bind(*arguments)
    except TypeError as error:
        raise MarkError(f"{path}: the mark `{asked}` has the wrong arguments: {error}") from error
    try:
        return tables[name](*arguments)
    except ValueError as error:
        raise MarkError(f"{path}: the mark `{asked}` cannot be rendered: {error}") from error


def _marks(path: str, page: str) -> list[re.Match[str]]:
    """The marks of a page, in order."""
    found = list(_MARK.finditer(page))
    starts = {mark.start() for mark in found}
    for start in re.finditer(re.escape(_START), page):
        if start.start() not in starts:
            line = page[start.start() :].partition("\n")[0]
            form = f"{_START}, TABLE ARGUMENT...: begin -->` or `: end -->"
            raise MarkError(f"{path}: `{line}` is no mark of the form `{form}`")
    return found
