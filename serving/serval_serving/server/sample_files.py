"""The folder of samples: files that may serve as warm-up requests, the oldest of which give way to new ones.

`FOLDER/MODEL/VERSION/POD-TIME-NUMBER.tfrecord` has records of one version of one model. So a file may become
the `assets.extra/tf_serving_warmup_requests` of a version without changes.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Final
from urllib.parse import quote

from serval_serving.server.warmup import MAX_RECORDS

SUFFIX: Final = ".tfrecord"
MAX_NAME: Final = 200
"""Characters of a model's name in a path; a longer one is cut."""

_FILES: Final = 8
"""The limit of bytes is that of about so many full files: what gives way is one of them."""
_MOST_FOUND: Final = 10_000


@dataclass(slots=True)
class _File:
    """A file of samples.

    Attributes
    ----------
    path:
        Where it is.
    size:
        Its bytes.
    records:
        How many records were added to it here.
    """

    path: Path
    size: int
    records: int = 0


class SampleFiles:
    """The files that this pod writes. Files of other pods in the same folder are left alone.

    Parameters
    ----------
    folder:
        Where they are; it is made if it does not exist.
    pod:
        What the names of this pod's files begin with.
    max_bytes:
        Bytes of all its files together. Files of an earlier process of the pod count.
    now:
        Seconds since the epoch.

    Raises
    ------
    OSError
        The folder cannot be made or read.
    """

    def __init__(self, folder: Path, pod: str, max_bytes: int, now: Callable[[], float] = time.time) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._pod = _word(pod)
        self._max_bytes = max_bytes
        self._now = now
        self._numbers = count(1)
        found = sorted(self._existing(), key=lambda one: (one[1], one[0]))
        self._files = deque(_File(path, size) for path, _, size in found)
        self._open: dict[Path, _File] = {}
        self._total = sum(file.size for file in self._files)

    def add(self, model: str, version: int, record: bytes) -> bool:
        """Add a record to a file of a version; the answer is whether there was room.

        Raises
        ------
        OSError
            It cannot be written, for example because the disk is full. What was written of it is taken back.
        """
        if len(record) > self._max_bytes // _FILES:
            return False
        file = self._file(self._folder / _word(model) / str(version), len(record))
        while self._files and self._total + len(record) > self._max_bytes:
            self._remove(self._files[0])
        if file not in self._files:
            self._files.append(file)
        self._append(file, record)
        return True

    def _append(self, file: _File, record: bytes) -> None:
        """Write a record behind the others."""
        file.path.parent.mkdir(parents=True, exist_ok=True)
        # Only this user may read it: samples are what callers sent.
        number = os.open(file.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(number, "ab", buffering=0) as stream:
            try:
                written = stream.write(record)
            except OSError:
                stream.truncate(file.size)
                raise
            if written != len(record):
                stream.truncate(file.size)
                raise OSError(f"{written} of {len(record)} bytes could be written")
        file.size += len(record)
        file.records += 1
        self._total += len(record)

    def _file(self, folder: Path, size: int) -> _File:
        """Return the file that the next record of a version goes to."""
        file = self._open.get(folder)
        full = file is None or file.records >= MAX_RECORDS or file.size + size > self._max_bytes // _FILES
        if file is None or full:
            name = f"{self._pod}-{int(self._now())}-{next(self._numbers)}{SUFFIX}"
            file = self._open[folder] = _File(folder / name, 0)
        return file

    def _remove(self, file: _File) -> None:
        """Remove a file."""
        self._files.remove(file)
        if self._open.get(file.path.parent) is file:
            del self._open[file.path.parent]
        self._total -= file.size
        # The next record may be written to it all the same.
        file.size = file.records = 0
        file.path.unlink(missing_ok=True)
        with suppress(OSError):  # another file is in it
            file.path.parent.rmdir()

    def _existing(self) -> Iterator[tuple[Path, float, int]]:
        """Yield path, time and size of the files of earlier processes."""
        for path in islice(self._folder.glob(f"*/*/{self._pod}-*{SUFFIX}"), _MOST_FOUND):
            with suppress(OSError):  # it was removed meanwhile
                status = path.stat()
                yield path, status.st_mtime, status.st_size


def _word(name: str) -> str:
    """Spell a name as one part of a path."""
    text = quote(name, safe="")[:MAX_NAME]
    # What begins with a dot is hidden, or leads elsewhere.
    return f"%2E{text[1:]}" if text.startswith(".") else text
