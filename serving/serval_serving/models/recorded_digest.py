"""The digest of a version's files, which the fetcher records beside the version's folder.

The server does not compute it: that would read every model twice. Model servers pass over the file, since its
name is no number.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

_SUFFIX: Final = ".sha256"
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_LENGTH: Final = len("sha256:") + 64


def digest_file(folder: Path) -> Path:
    """Return where the digest of a version's folder is recorded."""
    return folder.with_name(folder.name + _SUFFIX)


def recorded_digest(folder: Path) -> str:
    """Read the digest of a version; empty if none is recorded that can be read."""
    try:
        with digest_file(folder).open(encoding="ascii") as file:
            text = file.read(_LENGTH)
    except (OSError, UnicodeDecodeError):
        return ""
    return text if _DIGEST.fullmatch(text) else ""


def record_digest(folder: Path, digest: str) -> None:
    """Record the digest, ``sha256:`` and hexadecimal digits, of a version.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    digest_file(folder).write_text(f"{digest}\n", encoding="ascii")
