"""Merges the page of the upstream server's metrics into the proxy's own."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_COMMENT: Final = re.compile(r"# (?:HELP|TYPE) (\S+)")
_SAMPLE: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_SUFFIXES: Final = ("_bucket", "_sum", "_count", "_total", "_created")
"""What the samples of one metric may have behind its name."""


def joined(own: str, other: str) -> str:
    """Add to a page the metrics of another one that it has not: no name may stand twice."""
    names = set(_COMMENT.findall(own))
    lines = [line for line in other.splitlines() if line and not _is_of(line, names)]
    return own + "".join(f"{line}\n" for line in lines)


def _is_of(line: str, names: Iterable[str]) -> bool:
    """Whether a line belongs to one of these metrics, or to none at all."""
    found = _COMMENT.match(line)
    if found:
        return found[1] in names
    sample = _SAMPLE.match(line)
    if sample is None:
        return True
    return any(name in names for name in _possible(sample[0]))


def _possible(sample: str) -> Iterable[str]:
    """Name the metrics that a sample may be of."""
    yield sample
    for suffix in _SUFFIXES:
        if sample.endswith(suffix):
            yield sample.removesuffix(suffix)
