"""``python -m serval_serving.accel.convert.child STEP REQUEST CHANNEL``: runs one step of a conversion.

REQUEST is a file with JSON. CHANNEL is the number of an open file: a line of JSON for each progress, and one
for the result or the failure. Standard output and standard error are the log.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, TextIO

from serval_serving.accel.convert.failures import NO_MEMORY
from serval_serving.accel.convert.steps import STEPS
from serval_serving.stages.program import StageFailure

_PR_SET_PDEATHSIG: Final = 1
_PEAK: Final = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)


def main(arguments: Sequence[str]) -> int:
    """Run a step; return the exit status: 0 done, 1 failed with a reason."""
    step, request, channel = arguments
    _die_with_parent()
    with os.fdopen(int(channel), "w", encoding="utf-8") as lines:
        failure: dict[str, Any]
        try:
            result = STEPS[step](
                json.loads(Path(request).read_text(encoding="utf-8")),
                lambda share, message: _say(lines, {"share": share, "message": message}),
            )
        except StageFailure as error:
            failure = {"reason": error.reason, "message": error.message, "permanent": error.permanent}
        except MemoryError:
            failure = {"reason": NO_MEMORY, "message": "could not get memory", "permanent": False}
        else:
            _say(lines, {"result": result, "peak": peak_bytes()})
            return 0
        _say(lines, {"failure": failure})
    return 1


def peak_bytes() -> int:
    """Return the most memory that this process had at once, in bytes; 0 where the kernel does not say."""
    try:
        found = _PEAK.search(Path("/proc/self/status").read_text(encoding="ascii"))
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def _say(lines: TextIO, fields: dict[str, Any]) -> None:
    print(json.dumps(fields), file=lines, flush=True)


def _die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent is gone, since no one else would."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
