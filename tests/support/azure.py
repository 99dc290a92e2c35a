"""Calls by Azure ML's own client of accelerated models, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).with_name("azure_client.py")
SECONDS = 120


def azure(*calls: dict[str, Any], **told: Any) -> list[Any]:
    """Let the client make calls, and return what each gave: an array as nested lists, or an error's text.

    Parameters
    ----------
    calls:
        Each a method of the client with its arguments.
    told:
        Arguments of `PredictionClient`, or `scoring_uri` and `name` for `client_from_service`.
    """
    line = json.dumps({"calls": calls, **told})
    # Without -P its own folder would come first, where `operator` is another module than Python's.
    command = [sys.executable, "-P", str(PROGRAM), line]
    done = subprocess.run(  # noqa: S603 - the program is ours
        command, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    results: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return results
