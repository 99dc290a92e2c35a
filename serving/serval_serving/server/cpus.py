"""How many CPUs this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")


def usable_cpus(limit_file: Path = CGROUP_LIMIT) -> int:
    """Count the CPUs: those of the affinity mask, or fewer where a container's limit says so.

    A pod with a limit of 2 CPUs on a node of 64 sees 64; 64 threads would only get throttled.
    """
    affinity = len(os.sched_getaffinity(0))
    try:
        quota, period = limit_file.read_text(encoding="ascii").split()
        limit = math.ceil(int(quota) / int(period))
    except (OSError, ValueError, ZeroDivisionError):
        # No such file outside of a container, and "max" where there is no limit.
        return affinity
    return max(1, min(affinity, limit))
