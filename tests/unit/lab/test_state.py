from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from serval_lab import LabError, NodeSpec, Settings
from serval_lab.errors import tail, with_log
from serval_lab.locks import lock
from serval_lab.procs import MARK, Process, ancestors, kill_all, marked, start
from serval_lab.state import LabState, Options, StateFolder, boot_id, claimed
from serval_lab.wait import wait_for


def make(root: Path, name: str, state: LabState) -> StateFolder:
    folder = StateFolder(root, name)
    folder.make()
    folder.save(state)
    return folder


def test_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    state = LabState(3, "up", {"etcd": 20001}, [NodeSpec("a", devices={"x.y/z": 1})], Options(kwok=True))
    assert make(tmp_path, "one", state).load() == state
    assert state.boot == boot_id()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"index": 0}', '{"nodes": [], "options": {"new": 1}}'])
def test_half_a_state_is_none(tmp_path: Path, text: str) -> None:
    folder = StateFolder(tmp_path, "one")
    folder.make()
    (folder.path / "lab.json").write_text(text)
    assert folder.load() is None


def test_claims_are_those_of_labs_with_nodes(tmp_path: Path) -> None:
    make(tmp_path, "a", LabState(0))
    make(tmp_path, "b", LabState(None))
    make(tmp_path, "c", LabState(4))
    assert claimed(tmp_path) == {0: tmp_path / "a", 4: tmp_path / "c"}


@pytest.mark.parametrize("name", ["", "A", "a/b", "..", "a" * 41, "-a"])
def test_bad_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(LabError, match="no name for a lab"):
        StateFolder(tmp_path, name)


def test_settings_follow_the_environment() -> None:
    plain = Settings.from_environment({"HOME": "/h"}, uid=1000)
    assert (plain.cache, plain.state, plain.assets) == (
        Path("/h/.cache/serval"),
        Path("/h/.local/state/serval-lab"),
        None,
    )
    assert Settings.from_environment({"HOME": "/root"}, uid=0).state == Path("/var/lib/serval-lab")
    env = {"HOME": "/h", "XDG_CACHE_HOME": "/x", "SERVAL_STATE": "/s", "KUBE_ASSETS": "/k"}
    told = Settings.from_environment(env, uid=0)
    assert (told.cache, told.state, told.assets) == (Path("/x/serval"), Path("/s"), Path("/k"))


def test_a_held_lock_is_waited_for_and_named(tmp_path: Path) -> None:
    said: list[str] = []
    with (
        lock(tmp_path / "l", "someone", 1.0),
        pytest.raises(LabError, match="someone has not ended"),
        lock(tmp_path / "l", "someone", 0.0, said.append),
    ):
        pass
    with lock(tmp_path / "l", "someone", 0.0):
        pass


def test_waiting_ends_with_the_log_that_explains(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("".join(f"line {i}\n" for i in range(100)))
    with pytest.raises(LabError, match=r"the sun: not within 0 s\n--- end of .*\n(line \d+\n)+"):
        wait_for("the sun", lambda: False, 0.0, log=log)
    with pytest.raises(LabError, match="the sun: the process has ended"):
        wait_for("the sun", lambda: False, 60.0, alive=lambda: False)
    assert wait_for("three", lambda: 3, 0.0) == 3


def test_tail_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("a\nb\nc\n")
    assert tail(log, 2) == "b\nc"
    assert tail(tmp_path / "none") == ""
    assert with_log("it failed", None) == "it failed"


def sleeper(folder: Path) -> Process:
    return start(
        [sys.executable, "-c", "import time; time.sleep(60)"],
        log=folder / "log",
        pid_file=folder / "pid",
        mark=folder,
        env={"PATH": os.environ["PATH"]},
    )


def test_processes_are_found_by_pid_file_and_by_mark_and_ended(tmp_path: Path) -> None:
    process = sleeper(tmp_path)
    assert Process.read(tmp_path / "pid") == process
    wait_for("the mark", lambda: marked(tmp_path) == {process: tmp_path}, 10)
    assert kill_all([process]) == []
    assert not process.alive
    assert Process.read(tmp_path / "pid") is None
    assert not marked(tmp_path)


def test_a_reused_pid_is_another_process(tmp_path: Path) -> None:
    process = sleeper(tmp_path)
    earlier = Process(process.pid, process.started - 1)
    earlier.kill()
    assert not earlier.alive
    assert process.alive
    kill_all([process])


def test_neither_we_nor_our_ancestors_are_killed(tmp_path: Path) -> None:
    assert {os.getpid(), os.getppid()} <= ancestors()
    script = (
        f"from pathlib import Path; from serval_lab.procs import *; kill_all(marked(Path({str(tmp_path)!r})))"
    )
    env = os.environ | {MARK: str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", script], env=env, timeout=30, check=False).returncode == 0


def test_locks_are_per_thread_of_work(tmp_path: Path) -> None:
    order: list[int] = []

    def work(number: int) -> None:
        with lock(tmp_path / "l", "the other", 10.0):
            order.extend([number, number])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert order[::2] == order[1::2]
