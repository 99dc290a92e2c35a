"""What the kernel knows of a process: the CPU it used and the memory it holds."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

WINDOW = 0.5
"""Seconds over which the use of the CPU is judged."""
BUSY = 0.2
"""Share of one core from which on a process counts as busy. Timers and a health check are far below; so is
the resync of 10,000 objects in five minutes, which takes 0.08 for as long as the operator lives."""
CALM = 5.0
"""Seconds without a busy window after which a process is quiet."""


def cpu_seconds(pid: int) -> float:
    """CPU time of a process since its start, its threads' included; 0 where there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def machine_seconds() -> float:
    """CPU time that all processes of the machine used since its start."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    user, nice, system, _idle, _waiting, irq, softirq, *_ = (int(field) for field in fields)
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


class Spending:
    """CPU that processes, and all others of the machine, use from now on.

    Parameters
    ----------
    pids:
        Their ids, by name.
    """

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = dict(pids)
        self._before = self._now()
        self._machine = machine_seconds()
        self._began = time.monotonic()

    def so_far(self) -> tuple[dict[str, float], float]:
        """CPU seconds of each, and how many cores all others took on average."""
        used = {name: seconds - self._before[name] for name, seconds in self._now().items()}
        others = machine_seconds() - self._machine - sum(used.values())
        return used, max(0.0, others / (time.monotonic() - self._began))

    def _now(self) -> dict[str, float]:
        return {name: cpu_seconds(pid) for name, pid in self._pids.items()}


def memory_mb(pid: int) -> tuple[float, float]:
    """Resident memory of a process now, and the most that it ever was, in MB (10^6 bytes)."""
    lines = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
    )
    now, most = (int(lines[key].split()[0]) * 1024 / 1e6 for key in ("VmRSS", "VmHWM"))
    return now, most


def until_quiet(pid: int, limit: float, calm: float = CALM) -> float:
    """Wait until a process does nothing for a while; returns the time (`time.time`) of its last busy moment.

    Parameters
    ----------
    pid:
        The process.
    limit:
        Seconds after which it is given up.
    calm:
        Seconds without a busy window after which it is quiet.

    Raises
    ------
    TimeoutError
        It was busy for longer.
    """
    end, last, used = time.time() + limit, time.time(), cpu_seconds(pid)
    while time.time() - last < calm:
        time.sleep(WINDOW)
        now = cpu_seconds(pid)
        if now - used > BUSY * WINDOW:
            last = time.time()
        used = now
        if last > end:
            raise TimeoutError(f"process {pid} is still busy after {limit:.0f} s")
    return last
