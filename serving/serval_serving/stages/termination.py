"""The termination message of a container, which the operator reads."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

TERMINATION_LOG: Final = Path("/dev/termination-log")
_LOG: Final = logging.getLogger("serval.stage")


def write_termination_message(path: Path, line: str) -> None:
    """Write the line into the file that the kubelet made for it; outside a pod there is none."""
    try:
        with path.open("r+", encoding="ascii") as file:
            file.write(line)
            file.truncate()
    except OSError as error:
        _LOG.warning("no termination message at %s: %s", path, error.strerror)
