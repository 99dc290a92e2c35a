"""Counts what one model takes, whoever brings it: bytes and files."""

from __future__ import annotations

import threading

from serval_serving.fetch.errors import rejected, too_large
from serval_serving.fetch.progress import human


class Budget:
    """The size that one model may have, and what is used of it. Threads may share it.

    Parameters
    ----------
    max_bytes:
        Most bytes that all files may have together.
    max_entries:
        Most files and folders.
    """

    def __init__(self, max_bytes: int, max_entries: int) -> None:
        self.max_bytes = max_bytes
        self.max_entries = max_entries
        self._bytes = 0
        self._entries = 0
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        """Return the bytes that were counted."""
        return self._bytes

    @property
    def entries(self) -> int:
        """Return the files and folders that were counted."""
        return self._entries

    def entry(self) -> None:
        """Count one file or folder.

        Raises
        ------
        FetchError
            ``ModelArtifactRejected`` when there are more than may be.
        """
        with self._lock:
            self._entries += 1
            if self._entries > self.max_entries:
                raise rejected(f"the model has more than the {self.max_entries} entries that are allowed")

    def grow(self, count: int) -> None:
        """Count `count` bytes.

        Raises
        ------
        FetchError
            ``ModelTooLarge`` when there are more than may be.
        """
        with self._lock:
            self._bytes += count
            if self._bytes > self.max_bytes:
                raise too_large(f"unpacked, the model has more than the {human(self.max_bytes)} allowed")
