from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from serval_lab import device_control
from serval_lab.device_control import DeviceState
from serval_lab.node_init import Supervisor, keep_plugins
from serval_lab.procs import Process
from serval_lab.wait import wait_for

# A plugin as the supervisor sees one: a program that is given its control file and stays.
PLUGIN = [sys.executable, "-c", "import sys, time; print(sys.argv[1], flush=True); time.sleep(60)"]
PROGRAM = "devices-a.b_c"


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    made = Supervisor({"programs": {"sleeper": ["sleep", "60"]}, "logs": str(tmp_path), "name": "n"})
    yield made
    for program in list(made._running.values()):
        made.stop(program)
    wait_for("the end of all programs", lambda: made.watch() or not made._running, 10)


def pid(supervisor: Supervisor, program: str) -> int | None:
    return next((pid for pid, name in supervisor._running.items() if name == program), None)


def test_a_program_that_ends_is_started_again_and_one_that_was_stopped_is_not(supervisor: Supervisor) -> None:
    supervisor.start("sleeper")
    first = pid(supervisor, "sleeper")
    assert first is not None
    process = Process.of(first)
    assert process is not None
    process.kill()
    wait_for(
        "its second life", lambda: supervisor.watch() or pid(supervisor, "sleeper") not in (None, first), 10
    )
    assert not supervisor.stop("sleeper")
    wait_for("its end", lambda: supervisor.watch() or supervisor.stop("sleeper"), 10)
    assert not supervisor._due
    supervisor.keep("sleeper", ["sleep", "60"])
    assert pid(supervisor, "sleeper")


def test_a_stopped_plugin_ends_says_so_once_and_comes_back(supervisor: Supervisor, tmp_path: Path) -> None:
    folder = tmp_path / "devices"
    folder.mkdir()
    device_control.write(folder, DeviceState("a.b/c", 2))

    def look() -> None:
        supervisor.watch()
        keep_plugins(supervisor, folder, PLUGIN)

    look()
    first = pid(supervisor, PROGRAM)
    assert first
    device_control.change(folder, "a.b/c", stopped=True)
    # The change is made once the process is gone, not once it is told to go.
    look()
    assert device_control.acknowledged(folder, "a.b/c") == 0
    wait_for("the plugin's end", lambda: look() or device_control.acknowledged(folder, "a.b/c") == 2, 10)
    assert not pid(supervisor, PROGRAM)
    assert not Path(f"/proc/{first}").exists()
    device_control.change(folder, "a.b/c", stopped=False)
    look()
    assert pid(supervisor, PROGRAM) not in (None, first)
