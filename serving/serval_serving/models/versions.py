"""Versions of a model on disk, and the policies that choose among them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from serval_contract.models import MAX_VERSION


class VersionPolicy(Protocol):
    """Chooses the versions to serve."""

    def select(self, found: Iterable[int]) -> list[int]:
        """Choose among the versions on disk; the answer is in ascending order."""


@dataclass(frozen=True, slots=True)
class Latest:
    """Serve the highest versions: one, unless told otherwise."""

    count: int = 1

    def select(self, found: Iterable[int]) -> list[int]:
        """Choose the `count` highest."""
        return sorted(found)[-self.count :]


@dataclass(frozen=True, slots=True)
class All:
    """Serve every version."""

    def select(self, found: Iterable[int]) -> list[int]:
        """Choose all."""
        return sorted(found)


@dataclass(frozen=True, slots=True)
class Specific:
    """Serve the versions that are named, as far as they are there."""

    versions: frozenset[int]

    def select(self, found: Iterable[int]) -> list[int]:
        """Choose those that are named."""
        return sorted(self.versions & set(found))


def scan(base_path: Path) -> dict[int, Path]:
    """Find the version folders of a base path: those whose names are numbers, leading zeros allowed.

    Of two names for one number the first in alphabetical order counts. A base path that is not there has
    no versions: it may still be mounted or filled.
    """
    found: dict[int, Path] = {}
    try:
        entries = sorted(base_path.iterdir())
    except OSError:
        return found
    for entry in entries:
        name = entry.name
        if name.isascii() and name.isdecimal() and int(name) <= MAX_VERSION and entry.is_dir():
            found.setdefault(int(name), entry)
    return found
