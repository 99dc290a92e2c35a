"""Runs a step of a conversion as a child process, and says how it ended."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from serval_contract.conversion_reasons import CONVERSION_TIMED_OUT
from serval_serving.accel.convert import memory
from serval_serving.accel.convert.failures import NO_MEMORY, failed, out_of_memory
from serval_serving.stages.program import StageFailure

PROGRAM: Final = "serval_serving.accel.convert.child"
MAX_LINE_BYTES: Final = 1 << 20
TAIL_LINES: Final = 12
"""Lines of a child's log that a failure message may have; the message itself is cut further."""
MAX_TAIL_CHARACTERS: Final = 700
_READ_BYTES: Final = 1 << 16
_END_SECONDS: Final = 10.0
_SIGNS: Final = ("bad_alloc", "MemoryError", "OOM when allocating", "Cannot allocate memory")

Progress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class StepDone:
    """What a step did.

    Attributes
    ----------
    result:
        JSON data, whose form is the step's own.
    seconds:
        How long it took.
    peak_bytes:
        The most memory that it had at once.
    """

    result: Mapping[str, Any]
    seconds: float
    peak_bytes: int


@dataclass(slots=True)
class _Child:
    """What is known of a running child."""

    process: subprocess.Popen[bytes]
    output: IO[bytes]
    channel: IO[bytes]
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))
    last: Mapping[str, Any] = field(default_factory=dict)
    timed_out: bool = False


def run_step(
    step: str,
    request: Mapping[str, Any],
    work: Path,
    *,
    needed: int,
    seconds: float,
    progress: Progress,
    log: Callable[[str], None],
) -> StepDone:
    """Run a step in its own process.

    Parameters
    ----------
    step:
        A name of `serval_serving.accel.convert.steps.STEPS`.
    request:
        What the step takes.
    work:
        Folder for its files.
    needed:
        Bytes of memory that the conversion needs, for the message of a step that is killed.
    seconds:
        Time limit.
    progress:
        Takes the share that is done, from 0 to 1, and what is done.
    log:
        Takes each line that the child writes.

    Raises
    ------
    StageFailure
        The step failed, was killed or took too long. The child and what it started are gone.
    """
    file = work / f"{step}.json"
    file.write_text(json.dumps(request), encoding="utf-8")
    kills = memory.oom_kills()
    begun = time.monotonic()
    child = _start(step, file)
    try:
        _follow(child, begun + seconds, progress, log)
    finally:
        _end(child)
    if "result" in child.last:
        return StepDone(child.last["result"], time.monotonic() - begun, int(child.last["peak"]))
    raise _failure(step, child, needed, seconds, killed_for_memory=memory.oom_kills() > kills)


def _start(step: str, request: Path) -> _Child:
    told, tells = os.pipe()
    logged, logs = os.pipe()
    command = [sys.executable, "-m", PROGRAM, step, str(request), str(tells)]
    environment = {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1", **os.environ}
    try:
        process = subprocess.Popen(  # noqa: S603 - our own program
            command,
            stdin=subprocess.DEVNULL,
            stdout=logs,
            stderr=subprocess.STDOUT,
            pass_fds=(tells,),
            start_new_session=True,
            env=environment,
        )
    except BaseException:
        os.close(told)
        os.close(logged)
        raise
    finally:
        os.close(tells)
        os.close(logs)
    return _Child(process, os.fdopen(logged, "rb", buffering=0), os.fdopen(told, "rb", buffering=0))


def _follow(child: _Child, deadline: float, progress: Progress, log: Callable[[str], None]) -> None:
    """Read what the child says until it says no more, or is out of time."""

    def told(line: str) -> None:
        try:
            fields = json.loads(line)
        except ValueError:  # the half line of a child that was killed
            return
        if "share" in fields:
            progress(float(fields["share"]), str(fields["message"]))
        else:
            child.last = fields

    def logged(line: str) -> None:
        child.tail.append(line)
        log(line)

    with selectors.DefaultSelector() as selector:
        selector.register(child.channel, selectors.EVENT_READ, _Lines(told))
        selector.register(child.output, selectors.EVENT_READ, _Lines(logged))
        said_all = False
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                child.timed_out = not said_all
                return
            for key, _ in selector.select(left):
                data = os.read(key.fd, _READ_BYTES)
                key.data.add(data)
                if data:
                    continue
                selector.unregister(key.fileobj)
                if key.fileobj is child.channel:
                    # Something that the child started may hold its standard output open forever.
                    said_all = True
                    deadline = min(deadline, time.monotonic() + _END_SECONDS)


class _Lines:
    """Makes lines of pieces of bytes; what is too long for a line is cut."""

    def __init__(self, take: Callable[[str], None]) -> None:
        self._take = take
        self._rest = b""

    def add(self, data: bytes) -> None:
        """Take the next piece; an empty one is the end."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if not data:
            lines, self._rest = [*lines, self._rest], b""
        self._rest = self._rest[:MAX_LINE_BYTES]
        for line in lines:
            if line.strip():
                self._take(line.decode("utf-8", "replace").rstrip())


def _end(child: _Child) -> None:
    """Kill the rest of the child and of what it started, and wait for it."""
    with suppress(ProcessLookupError):
        os.killpg(child.process.pid, signal.SIGKILL)
    child.process.wait()
    child.channel.close()
    child.output.close()


def _tail(child: _Child) -> str:
    """Say how the log ends, the last line first: a message that is too long is cut at its end."""
    if not child.tail:
        return "it logged nothing"
    *before, last = (line.strip()[:MAX_TAIL_CHARACTERS] for line in child.tail)
    room = MAX_TAIL_CHARACTERS - len(last)
    rest = " | ".join(before)[-room:] if room else ""
    return f"its log ends: {last}" + (f" (before it: {rest})" if rest else "")


def _failure(
    step: str, child: _Child, needed: int, seconds: float, *, killed_for_memory: bool
) -> StageFailure:
    """Say why a step gave no result."""
    told = child.last.get("failure")
    status = child.process.returncode
    had = memory.available_bytes()
    tail = _tail(child)
    if told is not None and told["reason"] != NO_MEMORY:
        return StageFailure(told["reason"], told["message"], permanent=told["permanent"])
    if child.timed_out:
        message = f"step {step} took longer than {seconds:g} s; {tail}"
        return StageFailure(CONVERSION_TIMED_OUT, message, permanent=False)
    if told is not None or any(word in tail for word in _SIGNS):
        return out_of_memory(step, needed, had, cause="could not get memory")
    if status == -signal.SIGKILL:
        cause = "was killed" + (" by the kernel for lack of memory" if killed_for_memory else " by signal 9")
        return out_of_memory(step, needed, had, cause=cause)
    how = f"signal {-status}" if status < 0 else f"exit status {status}"
    return failed(f"step {step} ended with {how}; {tail}")
