"""A step as a child process: what it says, how it ends, and that nothing of it is left."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serval_contract.conversion_memory import GIB
from serval_contract.conversion_reasons import (
    CONVERSION_FAILED,
    CONVERSION_OUT_OF_MEMORY,
    CONVERSION_TIMED_OUT,
)
from serval_serving.accel.convert import children, memory
from serval_serving.accel.convert.children import StepDone, run_step
from serval_serving.stages.program import StageFailure
from support.wait import until

PROGRAM = """
import json, os, sys, time, subprocess
step, request, channel = sys.argv[1:]
request = json.load(open(request))
lines = os.fdopen(int(channel), "w")
def say(**fields):
    print(json.dumps(fields), file=lines, flush=True)
{body}
"""
FOREVER = "say(share=0.5, message=str(os.getpid())); time.sleep(600)"


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., StepDone]:
    """Runs a program in place of the real child."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(children, "PROGRAM", "stub_child")

    def run(body: str, seconds: float = 60.0, progress: Any = lambda _share, _message: None) -> StepDone:
        (tmp_path / "stub_child.py").write_text(PROGRAM.format(body=body))
        logged: list[str] = []
        return run_step(
            "fold",
            {"path": "x"},
            tmp_path,
            needed=5 * GIB,
            seconds=seconds,
            progress=progress,
            log=logged.append,
        )

    return run


def test_result_and_progress(child: Callable[..., StepDone]) -> None:
    said: list[tuple[float, str]] = []
    body = 'say(share=0.25, message="folds"); say(result=request, peak=7); print("log")'
    done = child(body, progress=lambda share, message: said.append((share, message)))
    assert (done.result, done.peak_bytes) == ({"path": "x"}, 7)
    assert done.seconds > 0
    assert said == [(0.25, "folds")]


def test_more_log_than_a_pipe_holds(child: Callable[..., StepDone]) -> None:
    body = 'lines.write(json.dumps({"result": {}, "peak": 1})); lines.close(); print("x" * 3_000_000)'
    assert child(body).result == {}


def test_failure_with_a_reason(child: Callable[..., StepDone]) -> None:
    body = 'say(failure={"reason": "ModelInvalid", "message": "NaN", "permanent": True}); sys.exit(1)'
    failed = failure(child, body)
    assert (failed.reason, failed.message, failed.permanent) == ("ModelInvalid", "NaN", True)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            'print("first"); raise KeyError("lost")',
            r"exit status 1; its log ends: KeyError: 'lost' \(before it: .*first.*",
        ),
        ("os.abort()", "signal 6; it logged nothing"),
        ("lines.write('{\"resu')", "exit status 0"),
        ('print("a" * 9000); sys.exit(3)', "exit status 3"),
    ],
)
def test_an_end_without_a_result(child: Callable[..., StepDone], body: str, words: str) -> None:
    failed = failure(child, body)
    assert (failed.reason, failed.permanent) == (CONVERSION_FAILED, False)
    assert re.search(words, failed.message)
    assert len(failed.message) < 1000


@pytest.mark.parametrize(
    ("had", "permanent", "words"),
    [
        (2 * GIB, True, "step fold was killed by signal 9: needs 5.0 GiB, had 2.0 GiB"),
        (8 * GIB, False, "needs 5.0 GiB, had 8.0 GiB"),
        (None, False, "had an unknown amount"),
    ],
)
def test_a_child_that_is_killed(
    child: Callable[..., StepDone],
    monkeypatch: pytest.MonkeyPatch,
    had: int | None,
    permanent: bool,
    words: str,
) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: had)

    def kill(_share: float, pid: str) -> None:
        os.kill(int(pid), signal.SIGKILL)

    with pytest.raises(StageFailure, match=words) as failed:
        child(FOREVER, progress=kill)
    assert (failed.value.reason, failed.value.permanent) == (CONVERSION_OUT_OF_MEMORY, permanent)


@pytest.mark.parametrize(
    "body",
    [
        'say(failure={"reason": "NoMemory", "message": "", "permanent": False}); sys.exit(1)',
        'print("terminate called: std::bad_alloc"); os.abort()',
        'print("OOM when allocating tensor"); sys.exit(1)',
    ],
)
def test_a_child_that_gets_no_memory(child: Callable[..., StepDone], body: str) -> None:
    failed = failure(child, body)
    assert failed.reason == CONVERSION_OUT_OF_MEMORY
    assert "could not get memory: needs 5.0 GiB" in failed.message


def test_the_kernels_kills_are_named(child: Callable[..., StepDone], monkeypatch: pytest.MonkeyPatch) -> None:
    counts = iter((3, 4))
    monkeypatch.setattr(memory, "oom_kills", lambda: next(counts))
    failed = failure(child, "os.kill(os.getpid(), 9)")
    assert "was killed by the kernel for lack of memory" in failed.message


def test_time_limit_and_whole_group(child: Callable[..., StepDone]) -> None:
    pids: list[int] = []
    body = (
        'other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]);'
        'say(share=0, message=str(other.pid)); print("busy", flush=True); time.sleep(600)'
    )
    with pytest.raises(StageFailure, match=r"longer than 2 s; its log ends: busy") as failed:
        child(body, seconds=2.0, progress=lambda _, pid: pids.append(int(pid)))
    assert failed.value.reason == CONVERSION_TIMED_OUT
    until("the child of the child ends", lambda: is_gone(pids[0]))


def test_an_interrupted_parent_leaves_no_child(child: Callable[..., StepDone]) -> None:
    pids: list[int] = []

    def stop(_share: float, pid: str) -> None:
        pids.append(int(pid))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        child(FOREVER, progress=stop)
    assert is_gone(pids[0])


def test_memory_of_the_machine(tmp_path: Path) -> None:
    assert memory.available_bytes(tmp_path, tmp_path) is None
    (tmp_path / "meminfo").write_text("MemTotal:       8388608 kB\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available_bytes(tmp_path, tmp_path) == 8 * GIB
    assert memory.oom_kills(tmp_path, tmp_path) == 0


@pytest.mark.parametrize(
    ("own", "folder", "limit", "events"),
    [
        ("0::/", "", "memory.max", "memory.events"),
        ("0::/user.slice/a", "user.slice/a", "memory.max", "memory.events"),
        ("4:memory:/", "memory", "memory.limit_in_bytes", "memory.oom_control"),
        (
            "9:cpu,cpuacct:/x\n4:memory:/a/b\n0::/z",
            "memory/a/b",
            "memory.limit_in_bytes",
            "memory.oom_control",
        ),
    ],
)
def test_memory_of_a_control_group(tmp_path: Path, own: str, folder: str, limit: str, events: str) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "cgroup").write_text(own + "\n")
    (tmp_path / "meminfo").write_text("MemTotal:       8388608 kB\n")
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    (tmp_path / folder / limit).write_text(f"{3 * GIB}\n")
    (tmp_path / folder / events).write_text("under_oom 2\noom_kill 5\n")
    assert memory.available_bytes(tmp_path, tmp_path) == 3 * GIB
    assert memory.oom_kills(tmp_path, tmp_path) == 5


def test_what_a_saved_model_needs(tmp_path: Path) -> None:
    (tmp_path / "variables").mkdir()
    data = tmp_path / "variables" / "variables.data-00000-of-00001"
    for path, size in ((data, 553_600_000), (tmp_path / "saved_model.pb", 115_000)):
        path.touch()
        os.truncate(path, size)
    assert memory.wanted_bytes(tmp_path) == 5 * GIB
    data.unlink()
    os.truncate(tmp_path / "saved_model.pb", 553_600_000)
    assert memory.wanted_bytes(tmp_path) == 5.5 * GIB


def failure(child: Callable[..., StepDone], body: str) -> StageFailure:
    with pytest.raises(StageFailure) as failed:
        child(body)
    return failed.value


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True
