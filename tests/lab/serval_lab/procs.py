"""Processes of the lab: started apart from their parent, found again, ended by id and never by name.

A process id alone is not enough to find a process again, since ids are reused: the start time goes with
it. And since a pid file can be lost, every process carries its lab's state folder in its environment;
that mark survives exec and is inherited, so a search finds what no pid file knows.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from serval_lab.errors import LabError

MARK = "SERVAL_LAB_PROCESS"
"""Environment variable that every process of a lab carries; its value is the lab's state folder."""

_PROC = Path("/proc")
_STATE_FIELD = 2
_PARENT_FIELD = 3
_START_FIELD = 21


@dataclass(frozen=True)
class Process:
    """A process, for as long as it lives.

    Attributes
    ----------
    pid
        Process id.
    started
        Start time in clock ticks since boot, from /proc/PID/stat: tells a process from a later one
        with the same id.
    """

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """Return the process that has `pid` now; None if there is none or it is a zombie."""
        fields = _stat(pid)
        return cls(pid, int(fields[_START_FIELD])) if fields and fields[_STATE_FIELD] not in "ZX" else None

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return Process.of(self.pid) == self

    @property
    def stopped(self) -> bool:
        """Whether it stands still: SIGSTOP has reached all its threads."""
        states = [_stat(self.pid, thread.name) for thread in (_PROC / str(self.pid) / "task").glob("*")]
        return bool(states) and all(fields and fields[_STATE_FIELD] == "T" for fields in states)

    @property
    def program(self) -> str:
        """The first word of its command line; empty when it is gone."""
        try:
            raw = (_PROC / str(self.pid) / "cmdline").read_bytes()
        except OSError:
            return ""
        return os.fsdecode(raw.partition(b"\0")[0])

    @property
    def command(self) -> str:
        """Its command line, cut at 100 characters; empty when it is gone."""
        try:
            raw = (_PROC / str(self.pid) / "cmdline").read_bytes()
        except OSError:
            return ""
        return raw.replace(b"\0", b" ").decode(errors="replace").strip()[:100]

    def kill(self) -> None:
        """Send SIGKILL, through a pidfd so that no other process can be hit; nothing if it is gone."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            if self.alive:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        except ProcessLookupError:
            pass
        finally:
            os.close(handle)

    def write(self, path: Path) -> None:
        """Note the process in a pid file."""
        path.write_text(f"{self.pid} {self.started}\n")

    @classmethod
    def read(cls, path: Path) -> Process | None:
        """Return the process of a pid file if it still runs."""
        try:
            pid, started = path.read_text().split()
            noted = cls(int(pid), int(started))
        except (OSError, ValueError):  # no file, or half of one
            return None
        return noted if noted.alive else None


def _stat(pid: int, thread: str = "") -> list[str]:
    folder = _PROC / str(pid) / "task" / thread if thread else _PROC / str(pid)
    try:
        text = (folder / "stat").read_text(errors="replace")
    except OSError:
        return []
    head, _, rest = text.rpartition(")")  # the name between the brackets may hold anything
    return [str(pid), head, *rest.split()]


def start(
    command: Sequence[str | Path], *, log: Path, pid_file: Path, mark: Path, env: Mapping[str, str]
) -> Process:
    """Start a program in a session of its own, so that it outlives us.

    Parameters
    ----------
    command
        Program and arguments.
    log
        File that takes its output; what an earlier run left there is replaced.
    pid_file
        Where to note the process.
    mark
        State folder of the lab.
    env
        Whole environment, to which the mark is added.

    Raises
    ------
    LabError
        If the program cannot be started.
    """
    with log.open("wb") as stream:
        try:
            child = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env={**env, MARK: str(mark)},
                start_new_session=True,
                close_fds=True,
            )
        except OSError as error:
            raise LabError(f"cannot start {command[0]}: {error}") from error
    process = Process.of(child.pid)
    _children[child.pid] = child
    if process is None:
        raise LabError(f"{command[0]} ended at once; see {log}")
    process.write(pid_file)
    return process


_children: dict[int, subprocess.Popen[bytes]] = {}
"""Our own children, so that those which end are reaped and no zombie looks alive."""


def reap() -> None:
    """Collect our own children that have ended."""
    for pid, child in list(_children.items()):
        if child.poll() is not None:
            del _children[pid]


def marked(mark: Path | None = None) -> dict[Process, Path]:
    """Return every process that carries a lab's mark, with the state folder it names.

    Parameters
    ----------
    mark
        Only processes of this state folder; all labs by default. Processes of other users cannot be
        read and are left out.
    """
    prefix = MARK.encode() + b"="
    found: dict[Process, Path] = {}
    for entry in _PROC.iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            environ = (entry / "environ").read_bytes()
        except OSError:
            continue
        values = [part[len(prefix) :] for part in environ.split(b"\0") if part.startswith(prefix)]
        process = Process.of(int(entry.name)) if values else None
        if process and (mark is None or values[0] == str(mark).encode()):
            found[process] = Path(os.fsdecode(values[0]))
    return found


def ancestors() -> set[int]:
    """Return our own process id and those of our ancestors: never to be killed."""
    line, pid = set[int](), os.getpid()
    while pid > 0 and pid not in line:
        line.add(pid)
        fields = _stat(pid)
        pid = int(fields[_PARENT_FIELD]) if fields else 0
    return line


def kill_all(processes: Iterable[Process], limit: float = 20.0) -> list[Process]:
    """Kill processes and wait until they are gone; return those that are not, after `limit` seconds."""
    spared = ancestors()
    rest = killed = [process for process in processes if process.pid not in spared]
    for process in rest:
        process.kill()
    deadline = time.monotonic() + limit
    while True:
        reap()
        rest = [process for process in rest if process.alive]
        if not rest or time.monotonic() > deadline:
            break
        time.sleep(0.02)
    for pid in {process.pid for process in killed} - {process.pid for process in rest}:
        child = _children.pop(pid, None)
        if child is not None:
            child.wait(timeout=limit)  # it is dead; this only collects it
    return rest
