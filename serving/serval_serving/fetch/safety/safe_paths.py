"""Where a file goes whose name somebody else chose: an entry of an archive, an object of a store."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from serval_serving.fetch.errors import rejected

MAX_DEPTH: Final = 32
"""Folders inside folders."""
_SHOWN: Final = 100


def place(name: str, to: Path) -> Path:
    """Return where the file `name` goes inside the folder `to`.

    Raises
    ------
    FetchError
        ``ModelArtifactRejected`` if that would not be inside, is too deep, or cannot be shown.
    """
    if name.startswith("/"):
        raise rejected(f"{shown(name)} is an absolute path")
    if not name.isprintable() or "\\" in name:
        raise rejected(f"{shown(name)} holds a backslash or characters that cannot be shown")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise rejected(f"{shown(name)} leads outside by '..'")
    if len(parts) > MAX_DEPTH:
        raise rejected(f"{shown(name)} lies more than {MAX_DEPTH} folders deep")
    return to.joinpath(*parts)


def shown(name: str) -> str:
    """Return a name as it may stand in a message."""
    return repr(name if len(name) <= _SHOWN else name[: _SHOWN - 3] + "...")
