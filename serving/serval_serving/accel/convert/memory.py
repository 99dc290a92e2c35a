"""How much memory there is for a conversion, and how much it needs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from serval_contract.conversion_memory import needed_bytes

CGROUP: Final = Path("/sys/fs/cgroup")
PROC: Final = Path("/proc")
_OWN: Final = re.compile(r"^\d+:(?P<controllers>[^:\n]*):/?(?P<path>[^\n]*)$", re.MULTILINE)
_KILLS: Final = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)
_TOTAL: Final = re.compile(r"^MemTotal:\s+(\d+) kB$", re.MULTILINE)


def available_bytes(cgroup: Path = CGROUP, proc: Path = PROC) -> int | None:
    """Return the memory that this container may use, or that this machine has; None if neither is known."""
    names = ("memory.max", "memory.limit_in_bytes")
    texts = [_text(folder / name).strip() for folder in _folders(cgroup, proc) for name in names]
    known = [int(text) for text in texts if text.isdigit()]
    total = _TOTAL.search(_text(proc / "meminfo"))
    if total:
        known.append(int(total[1]) * 1024)
    return min(known, default=None)


def oom_kills(cgroup: Path = CGROUP, proc: Path = PROC) -> int:
    """Return how many processes of this container the kernel has killed for lack of memory."""
    names = ("memory.events", "memory.oom_control")
    texts = [_text(folder / name) for folder in _folders(cgroup, proc) for name in names]
    return max((int(match[1]) for text in texts if (match := _KILLS.search(text))), default=0)


def _folders(cgroup: Path, proc: Path) -> list[Path]:
    """Return the folders of the process's control groups, of version 2 and 1.

    A container sees its own as the root; elsewhere the kernel names the path below it.
    """
    found = [cgroup, cgroup / "memory"]
    for own in _OWN.finditer(_text(proc / "self" / "cgroup")):
        if "memory" in own["controllers"].split(","):
            found.append(cgroup / "memory" / own["path"])
        elif not own["controllers"]:
            found.append(cgroup / own["path"])
    return found


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
