"""Counts words of unclear English per 1,000 words of prose, and fails if there are more than allowed.

Two kinds of prose are counted: documents in Markdown, and the docstrings and comments of the programs. Code
blocks and code spans are left out. The allowed rates stand in words.toml and may only fall.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIMITS = "tools/words.toml"
KINDS: Mapping[str, Sequence[str]] = {
    "docs": ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/*.md", "charts/*/README.md"),
    "code": ("operator/*.py", "serving/*.py", "contract/*.py"),
}
"""Kinds of prose, and the files of each as patterns for git, in which `*` also crosses folders."""
MARKERS = (
    *("all of them", "anew", "as it is", "at rest", "be had", "be it", "be that", "for ever", "for want of"),
    *("how it is", "in vain", "is told", "nobody", "of its own", "puts up with", "so long", "so many"),
    *("somebody", "tells of", "that is there", "told to", "what is", "what it", "whatever", "where there"),
    "whoever",
)
WORST = 10
SLACK = 0.1
"""A rate that is this much below its limit is a reason to lower the limit."""

_MARKER = re.compile(rf"\b(?:{'|'.join(MARKERS)})\b", flags=re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z][A-Za-z'-]*")
_FENCE = re.compile(r"^ *(```|~~~).*?^ *\1 *$", flags=re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"^ {4,}(?![*+-] |\d+\. ).*$", flags=re.MULTILINE)
_SPAN = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)", flags=re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->", flags=re.DOTALL)
_BREAK = " . "
"""Stands for what is left out, so that no marker is found across it."""


@dataclass(frozen=True)
class Count:
    """Words and markers of some prose."""

    words: int
    markers: int

    @property
    def rate(self) -> float:
        """Markers per 1,000 words; 0 if there are no words."""
        return round(1000 * self.markers / self.words, 2) if self.words else 0.0


def count(prose: str) -> Count:
    """Count the words and markers of a text without code. A marker may go over the end of a line."""
    text = " ".join(prose.split())
    return Count(len(_WORD.findall(text)), len(_MARKER.findall(text)))


def markdown_prose(text: str) -> str:
    """Return a document in Markdown without code blocks, code spans and comments."""
    for pattern in (_COMMENT, _FENCE, _INDENTED, _SPAN):
        text = pattern.sub(_BREAK, text)
    return text


def python_prose(source: str) -> str:
    """Return the docstrings (of attributes too) and comments of a Python file, without code spans."""
    texts = [
        node.value.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ]
    line = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            follows = token.start[0] == line + 1
            texts.append(f"{'' if follows else _BREAK}{token.string.lstrip('#')}")
            line = token.start[0]
    return _SPAN.sub(_BREAK, "\n".join(texts))


def files(patterns: Sequence[str], root: Path) -> list[Path]:
    """Return the files of a kind that git knows."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", *patterns], cwd=root, capture_output=True, check=True, timeout=30
    )
    return [path for name in listed.stdout.decode().split("\0") if name and (path := root / name).is_file()]


def measure(kind: str, root: Path) -> dict[Path, Count]:
    """Count each file of a kind."""
    prose = markdown_prose if kind == "docs" else python_prose
    return {path: count(prose(path.read_text(encoding="utf-8"))) for path in files(KINDS[kind], root)}


def verdict(kind: str, rate: float, limit: float) -> tuple[bool, str]:
    """Say whether a rate is within its limit, and what to do."""
    text = f"{kind}: {rate:.2f} markers per 1,000 words, {limit:.2f} allowed"
    if rate > limit:
        return False, f"{text}: use plainer words (tools/words.py lists the markers)"
    if rate < limit - SLACK:
        return True, f"{text}: lower the number in {LIMITS} to {rate:.2f}"
    return True, text


def main(root: Path = ROOT) -> int:
    """Print the rates and the files with the most markers; fail if a rate is above its limit."""
    limits = tomllib.loads((root / LIMITS).read_text(encoding="utf-8"))
    good, counts = True, {}
    for kind in KINDS:
        found = measure(kind, root)
        counts |= found
        total = Count(sum(one.words for one in found.values()), sum(one.markers for one in found.values()))
        within, text = verdict(kind, total.rate, limits[kind])
        good = good and within
        print(text)
    worst = sorted(counts.items(), key=lambda entry: (-entry[1].markers, str(entry[0])))[:WORST]
    for path, one in worst:
        print(f"  {one.markers:3} markers, {one.rate:5.2f} per 1,000 words: {path.relative_to(root)}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
