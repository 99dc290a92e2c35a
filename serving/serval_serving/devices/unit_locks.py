"""Locks of the units that a device plugin allocated, so that no two processes of a node use one device.

A device plugin may give one card to two pods. A lock on the device node would not show this, since each
container has an inode for it. So the locks are files in a folder of the node that the plugin mounts into
every container to which it gives a unit. The kernel frees a lock when its process ends, however it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

import grpc

from serval_contract.devices import DEVICE_HELD
from serval_serving.devices.base import unusable
from serval_serving.engines.base import ModelLoadError

WHOLE_DEVICE: Final = "device"
"""Stands for the unit where the plugin names none."""
_FOR_ALL_USERS: Final = 0o666
"""Containers of other users take the same locks."""
_LONGEST_HOLDER: Final = 300
"""Bytes of the holder's name; other pods can write the file."""


class UnitLocks:
    """Exclusive locks, one for each unit.

    Parameters
    ----------
    folder:
        Where the files of the locks are.
    units:
        Ids of the units; none for one lock of the whole device.
    holder:
        What the files say while this process has the locks.
    """

    def __init__(self, folder: Path, units: Sequence[str], holder: str) -> None:
        self._folder = folder
        self._units = tuple(units) or (WHOLE_DEVICE,)
        self._holder = holder
        self._files: list[int] = []

    def take(self) -> None:
        """Take all locks, or none.

        Raises
        ------
        ModelLoadError
            Another process has one of them, or a file cannot be opened.
        """
        try:
            for unit in self._units:
                self._take(unit)
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Give the locks back."""
        while self._files:
            os.close(self._files.pop())

    def _take(self, unit: str) -> None:
        path = unit_file(self._folder, unit, "lock")
        try:
            file = _opened(path)
        except OSError as error:
            raise unusable(f"the lock of unit {unit} cannot be opened: {error}") from error
        self._files.append(file)
        with contextlib.suppress(PermissionError):
            # The mode above lacks the bits of the umask; only the file's owner may add them.
            os.fchmod(file, _FOR_ALL_USERS)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held = _holder_of(file)
            message = f"{DEVICE_HELD}: unit {unit} is held by {held or 'a process that gave no name'}"
            raise ModelLoadError(grpc.StatusCode.UNAVAILABLE, message, permanent=True) from None
        # The lock counts. The name is only for others, and a disk that is full has no room for it.
        with contextlib.suppress(OSError):
            os.ftruncate(file, 0)
            os.pwrite(file, self._holder.encode()[:_LONGEST_HOLDER], 0)


def unit_file(folder: Path, unit: str, ending: str) -> Path:
    """Return a file of a unit in the folder of locks; ids may hold any character."""
    return folder / f"unit-{quote(unit, safe='')}.{ending}"


def _opened(path: Path) -> int:
    """Open the file of a lock; make it if there is none.

    In a folder with the sticky bit the kernel may refuse to open another user's file by a call that may also
    make one (``fs.protected_regular``). So that is tried only when there is none.
    """
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    with contextlib.suppress(FileNotFoundError):
        return os.open(path, flags)
    with contextlib.suppress(FileExistsError):
        return os.open(path, flags | os.O_CREAT | os.O_EXCL, _FOR_ALL_USERS)
    # Another process made it in between.
    return os.open(path, flags)


def _holder_of(file: int) -> str:
    """Read who has a lock; empty where the file tells nothing."""
    try:
        text = os.pread(file, _LONGEST_HOLDER, 0)
    except OSError:
        return ""
    return "".join(one for one in text.decode(errors="replace") if one.isprintable()).strip()
