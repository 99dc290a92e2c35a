"""Short-lived programs, each with a limit."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from serval_lab.errors import LabError

LIMIT = 30.0


def run(
    command: Sequence[str | Path],
    *,
    limit: float = LIMIT,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and return what it printed.

    Parameters
    ----------
    command
        Program and arguments.
    limit
        Seconds until it is killed.
    stdin
        Text for its standard input; nothing by default.
    env
        Whole environment; ours by default.
    check
        Raise if its exit status is not 0.

    Raises
    ------
    LabError
        If it cannot be started, takes too long, or fails while `check` is set; with its last words.
    """
    words = [str(part) for part in command]
    try:
        done = subprocess.run(
            words,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit,
            env=env,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise LabError(f"{_short(words)}: not done within {limit:.0f} s") from None
    except OSError as error:
        raise LabError(f"{_short(words)}: {error}") from error
    if check and done.returncode:
        words_said = (done.stderr or done.stdout).strip()[-2000:]
        raise LabError(f"{_short(words)}: exit status {done.returncode}: {words_said}")
    return done


def _short(words: Sequence[str]) -> str:
    text = " ".join(words)
    return text if len(text) <= 160 else text[:157] + "..."
