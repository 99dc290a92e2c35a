"""Azure ML's own client of accelerated models, where it is installed, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from examples.demo.errors import DemoError
from examples.demo.model import HeldOutImage
from examples.demo.scoring import OUTPUT, Answers

PROGRAM = Path(__file__).resolve().parents[2] / "tests" / "support" / "azure_client.py"
"""Imports the client without the packages that it does not need. It brings other versions of messages that
this process has, so it runs alone."""
LIMIT_S = 120.0


def has_azure(path: Sequence[str] = tuple(sys.path)) -> bool:
    """Whether the package azureml-accel-models is installed."""
    return any((Path(folder) / "azureml" / "accel" / "_client.py").is_file() for folder in path)


def by_azure(
    address: str,
    model: str,
    folder: Path,
    images: Sequence[HeldOutImage],
    clock: Callable[[], float] = time.monotonic,
) -> Answers:
    """Score images by ``PredictionClient.score_file``, one in a request.

    Parameters
    ----------
    address:
        ``host:port`` of the gRPC port.
    model:
        Name of the served model.
    folder:
        Where the images lie as files.

    Raises
    ------
    DemoError
        The client failed.
    """
    host, _, port = address.rpartition(":")
    calls = [{"score_file": {"path": str(folder / image.name), "outputs": OUTPUT}} for image in images]
    told = {"address": host, "port": int(port), "service_name": model, "calls": calls}
    started = clock()
    # Without -P its folder would come first on the path.
    command = [sys.executable, "-P", str(PROGRAM), json.dumps(told)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=LIMIT_S, check=True, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise DemoError(f"Azure's client was not done within {LIMIT_S:.0f} s") from None
    except subprocess.CalledProcessError as error:
        raise DemoError(f"Azure's client failed:\n{error.stderr}"[-2000:]) from None
    answers = json.loads(done.stdout.splitlines()[-1])
    refused = [answer for answer in answers if isinstance(answer, str)]
    if refused:
        raise DemoError(f"Azure's client: {refused[0]}")
    digits = tuple(int(answer[0] if isinstance(answer, list) else answer) for answer in answers)
    return Answers("Azure's PredictionClient", digits, len(images), clock() - started)
