"""Memory of the process: what the C library keeps, what the container may use, and whether it is short."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

KEPT_BYTES: Final = 128 * 1024 * 1024
"""What may be free in each of the two arenas before it is given back."""
CGROUP_LIMIT: Final = Path("/sys/fs/cgroup/memory.max")
SHORT: Final = 0.6
"""Part of the limit from which memory is short: a message is copied once more when it is used."""

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
_ARENAS: Final = 2
_LARGEST_MMAP_THRESHOLD: Final = 32 * 1024 * 1024
_STATM: Final = Path("/proc/self/statm")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_LOOK_SECONDS: Final = 0.01
_GIVE_SECONDS: Final = 1.0
_IDLE_STEP_SECONDS: Final = 2.0


def keep_freed() -> bool:
    """Keep memory that was freed, for the next request; the answer is whether this C library can.

    By itself glibc maps each buffer of a large tensor anew and gives it back after the request. The kernel
    has to clear every page of it each time: 310 page faults and 1 ms of CPU for an image of 600 KB.

    The thresholds hold for each arena, and glibc makes eight per CPU of them unless their number is set.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    settings = {
        _M_ARENA_MAX: _ARENAS,
        _M_TRIM_THRESHOLD: KEPT_BYTES,
        _M_MMAP_THRESHOLD: _LARGEST_MMAP_THRESHOLD,
    }
    return all(mallopt(name, value) == 1 for name, value in settings.items())


def give_back() -> bool:
    """Give the memory that is free back to the system; the answer is whether there was any."""
    try:
        return bool(ctypes.CDLL(None).malloc_trim(0))
    except (AttributeError, OSError):
        return False


def resident_bytes() -> int:
    """Read this process's resident memory."""
    return int(_STATM.read_text(encoding="ascii").split()[1]) * _PAGE_BYTES


def memory_limit(limit_file: Path = CGROUP_LIMIT) -> int:
    """Read how much memory the container may use, in bytes; 0 for no limit.

    Reference: `memory.max` in "Control Group v2" of the Linux kernel's documentation.
    """
    try:
        return int(limit_file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        # No such file outside of a container, and "max" for no limit.
        return 0


class MemoryGuard:
    """Knows whether the memory of this process is short.

    Parameters
    ----------
    limit:
        Bytes that the process may use; 0 for any number.
    resident:
        Reads the bytes that it uses.
    give:
        Gives free memory back.
    clock:
        Monotonic seconds.
    """

    def __init__(
        self,
        limit: int,
        resident: Callable[[], int] = resident_bytes,
        give: Callable[[], bool] = give_back,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limit = limit
        self._most = int(limit * SHORT)
        self._resident = resident
        self._give = give
        self._clock = clock
        self._looked = self._gave = float("-inf")
        self._short = False

    def short(self) -> bool:
        """Whether it is short. The answer may be 20 ms old, since each look costs some microseconds."""
        if not self._most:
            return False
        now = self._clock()
        if now - self._looked >= _LOOK_SECONDS:
            self._looked = now
            self._short = self._resident() > self._most
            if self._short and now - self._gave >= _GIVE_SECONDS:
                self._gave = now
                self._give()
                self._short = self._resident() > self._most
        return self._short


class Trimmer:
    """Gives memory back while no request is in progress.

    Parameters
    ----------
    in_progress:
        Counts the requests in progress.
    give:
        Gives memory back.
    resident:
        Reads the bytes that the process uses.
    """

    def __init__(
        self,
        in_progress: Callable[[], int],
        give: Callable[[], bool] = give_back,
        resident: Callable[[], int] = resident_bytes,
    ) -> None:
        self._in_progress = in_progress
        self._give = give
        self._resident = resident
        self._idle = False
        self._least = 0
        self._stopped = threading.Event()

    def start(self) -> None:
        """Look again and again in a thread, until `stop`."""
        threading.Thread(target=self._watch, name="memory", daemon=True).start()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()

    def look(self) -> None:
        """Give memory back if this and the last look found no request, and there is more than after that."""
        idle = not self._in_progress()
        if idle and self._idle and self._resident() > self._least + KEPT_BYTES // 2:
            self._give()
            self._least = self._resident()
        self._idle = idle

    def _watch(self) -> None:
        """Look until stopped."""
        while not self._stopped.wait(_IDLE_STEP_SECONDS):
            self.look()
