"""How much memory there is for a conversion, and how much it needs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from serval_contract.conversion_memory import needed_bytes

CGROUP: Final = Path("/sys/fs/cgroup")
_LIMITS: Final = ("memory.max", "memory/memory.limit_in_bytes")
"""Of the process's own cgroup, as a container sees it: version 2 and version 1."""
_EVENTS: Final = ("memory.events", "memory/memory.oom_control")
_KILLS: Final = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)
_TOTAL: Final = re.compile(r"^MemTotal:\s+(\d+) kB$", re.MULTILINE)


def available_bytes(cgroup: Path = CGROUP, meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Return the memory that this container may use, or that this machine has; None if neither is known."""
    known = [int(text) for name in _LIMITS if (text := _text(cgroup / name).strip()).isdigit()]
    total = _TOTAL.search(_text(meminfo))
    if total:
        known.append(int(total[1]) * 1024)
    return min(known, default=None)


def oom_kills(cgroup: Path = CGROUP) -> int:
    """Return how many processes of this container the kernel has killed for lack of memory."""
    found = [int(match[1]) for name in _EVENTS if (match := _KILLS.search(_text(cgroup / name)))]
    return max(found, default=0)


def wanted_bytes(saved_model: Path) -> int:
    """Return what the conversion of a SavedModel needs, judged by the sizes of its files."""
    variables = sum(path.stat().st_size for path in (saved_model / "variables").glob("variables.data-*"))
    graph = sum(path.stat().st_size for path in saved_model.glob("saved_model.pb*"))
    return needed_bytes(max(variables, graph), frozen=graph > variables)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""
