"""Lock files between processes."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from serval_lab.errors import LabError


@contextmanager
def lock(path: Path, holder: str, limit: float, say: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold a lock file; the kernel frees it when its holder dies, however it dies.

    Parameters
    ----------
    path
        The file; it stays when the lock is let go.
    holder
        Who else may have it, as a noun.
    limit
        Seconds to wait for it.
    say
        Told once if there is something to wait for.

    Raises
    ------
    LabError
        If `holder` keeps it for longer than `limit`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        deadline, told = time.monotonic() + limit, say is None
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LabError(f"{holder} has not ended within {limit:.0f} s") from None
            if not told and say is not None:
                say(f"waiting for {holder} to end")
                told = True
            time.sleep(0.05)
        yield
