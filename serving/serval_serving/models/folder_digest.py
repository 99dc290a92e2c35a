"""The digest of a served version: what tells whether two replicas serve the same files."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_READ_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Content:
    """What a folder holds.

    Attributes
    ----------
    sha256:
        Hexadecimal digest over path, size and content of every file, in the order of the paths' bytes.
    size:
        Bytes of all files.
    """

    sha256: str
    size: int


def file_sha256(path: Path) -> str:
    """Return the hexadecimal digest of one file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_content(folder: Path) -> Content:
    """Read every file of `folder` and return digest and size.

    For each file, sorted by its relative POSIX path, ``path NUL size NUL content`` is hashed. Times, modes
    and empty folders do not count.
    """
    files = {
        os.fsencode(path.relative_to(folder).as_posix()): path for path in folder.rglob("*") if path.is_file()
    }
    digest = hashlib.sha256()
    total = 0
    for name, path in sorted(files.items()):
        size = path.stat().st_size
        digest.update(b"%s\0%d\0" % (name, size))
        with path.open("rb") as file:
            while chunk := file.read(_READ_BYTES):
                digest.update(chunk)
        total += size
    return Content(digest.hexdigest(), total)
