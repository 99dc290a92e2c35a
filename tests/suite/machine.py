"""Memory and disk of the machine while tests run: nodes, servers and caches included."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

MEMINFO = Path("/proc/meminfo")
EVERY_SECONDS = 0.5
GIB = 2**30


def memory_in_use(meminfo: str) -> int:
    """Return the bytes of memory that the machine could not give to a new program, caches aside."""
    lines = (line.partition(":") for line in meminfo.splitlines())
    fields = {name: int(rest.split()[0]) for name, _, rest in lines}
    return (fields["MemTotal"] - fields["MemAvailable"]) * 1024


def size_of(folder: Path) -> int:
    """Return the bytes of disk below a folder; files that vanish meanwhile do not count."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(root) / name).lstat().st_blocks * 512
            except FileNotFoundError:
                continue
    return total


class Watch:
    """Notes the highest use of memory and disk of the whole machine for as long as the block runs.

    The nodes of labs are no children of the test processes, and other programs of the machine cannot be told
    apart from them: the figures are those of the machine, each beside what it was in the beginning.

    Parameters
    ----------
    disk
        A path of the disk to watch.
    """

    def __init__(self, disk: Path) -> None:
        self._disk = disk
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="machine-watch", daemon=True)
        self.memory_before = self.memory_peak = memory_in_use(MEMINFO.read_text())
        self.disk_before = self.disk_peak = shutil.disk_usage(disk).used

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(EVERY_SECONDS):
            self.memory_peak = max(self.memory_peak, memory_in_use(MEMINFO.read_text()))
            self.disk_peak = max(self.disk_peak, shutil.disk_usage(self._disk).used)

    def lines(self) -> list[str]:
        """Return what was noted, for people."""
        peak, before = self.memory_peak / GIB, self.memory_before / GIB
        more = (self.disk_peak - self.disk_before) / GIB
        return [
            f"memory in use: {peak:.1f} GiB at most, {before:.1f} GiB before",
            f"disk: at most {more:.1f} GiB more than before",
        ]


def cache_line(cache: Path) -> str:
    """Return the disk that each folder of the cache uses."""
    if not cache.is_dir():
        return f"caches in {cache}: none"
    sizes = {path.name: size_of(path) for path in sorted(cache.iterdir()) if path.is_dir()}
    parts = ", ".join(f"{name} {size / GIB:.1f}" for name, size in sizes.items() if size >= GIB / 20)
    return f"caches in {cache}: {sum(sizes.values()) / GIB:.1f} GiB ({parts})"
