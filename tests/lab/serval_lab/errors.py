"""Errors of the lab."""

from __future__ import annotations

from pathlib import Path

LOG_LINES = 25


class LabError(Exception):
    """The lab cannot do what was asked; the text says why and what to do."""


def tail(path: Path | None, lines: int = LOG_LINES) -> str:
    """Return the last `lines` lines of a log, or an empty string when there is none."""
    if path is None or not path.is_file():
        return ""
    with path.open("rb") as stream:
        stream.seek(0, 2)
        stream.seek(max(0, stream.tell() - lines * 400))
        return "\n".join(stream.read().decode(errors="replace").splitlines()[-lines:])


def with_log(message: str, log: Path | None) -> str:
    """Return `message`, followed by the end of the log that explains it."""
    end = tail(log)
    return f"{message}\n--- end of {log}\n{end}\n---" if end else message
