"""Remembers a permanent failure, so that a restarted container reports it without a new fetch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from serval_serving.fetch.errors import FetchError

MARKER: Final = ".fetch-failure.json"
KEEP_SECONDS: Final = 600.0
"""After this time the fetch is tried again: the source may have been corrected."""


class FailureMemo:
    """The marker of a permanent failure.

    Parameters
    ----------
    folder:
        A folder that outlives the container, such as an emptyDir.
    arguments:
        The program's arguments. Only a hash of them is written: a URI may hold a secret.
    now:
        Wall clock, seconds since the epoch; it outlives the process, as a monotonic clock does not.
    """

    def __init__(self, folder: Path, arguments: Sequence[str], now: Callable[[], float]) -> None:
        self._path = folder / MARKER
        self._key = hashlib.sha256("\0".join(arguments).encode("utf-8", "surrogateescape")).hexdigest()
        self._now = now

    def recall(self) -> FetchError | None:
        """Return the failure of an earlier run with the same arguments, if it is young enough."""
        try:
            content = json.loads(self._path.read_bytes())
            if content["arguments"] != self._key or not 0 <= self._now() - content["at"] < KEEP_SECONDS:
                return None
            return FetchError(str(content["reason"]), str(content["message"]), permanent=True)
        except (OSError, ValueError, LookupError, TypeError):
            # No marker, or one that is cut short or strange: fetch.
            return None

    def remember(self, error: FetchError) -> None:
        """Keep `error` for the next run.

        Raises
        ------
        OSError
            If the marker cannot be written.
        """
        content = {"arguments": self._key, "at": self._now()}
        content |= {"reason": error.reason, "message": error.message}
        temporary = self._path.with_suffix(".new")
        temporary.write_text(json.dumps(content), encoding="ascii")
        temporary.replace(self._path)

    def forget(self) -> None:
        """Remove the marker, if there is one."""
        self._path.unlink(missing_ok=True)
