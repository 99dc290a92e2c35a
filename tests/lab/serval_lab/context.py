"""What all parts of one lab share while it is brought up, watched and taken down."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from serval_lab import procs
from serval_lab.addresses import AddressPlan
from serval_lab.binaries import Binaries
from serval_lab.errors import LabError
from serval_lab.state import LabState, StateFolder

PACKAGE_ROOT = Path(__file__).resolve().parents[1]

_PORTS = range(20000, 32000)  # below the ports that the kernel hands to outgoing connections


@dataclass(frozen=True)
class Context:
    """One lab: its folder, what is noted of it, its binaries.

    Attributes
    ----------
    folder
        Where it keeps its files.
    state
        What is noted of it.
    binaries
        Its programs.
    python
        Interpreter of the lab's own programs.
    say
        Receives one line for each step.
    """

    folder: StateFolder
    state: LabState
    binaries: Binaries
    python: str
    say: Callable[[str], None]

    @property
    def name(self) -> str:
        """Name of the lab."""
        return self.folder.path.name

    @property
    def plan(self) -> AddressPlan:
        """Address plan of a lab with nodes.

        Raises
        ------
        LabError
            For a control plane on loopback, which has none.
        """
        if self.state.index is None:
            raise LabError(f"lab {self.name} is a control plane alone, bound to loopback: it has no nodes")
        return AddressPlan(self.state.index)

    @property
    def host(self) -> str:
        """Address that the control plane listens on."""
        return "127.0.0.1" if self.state.index is None else str(self.plan.host)

    @property
    def apiserver(self) -> str:
        """URL of the API server."""
        return f"https://{self.host}:{self.state.ports['apiserver']}"

    @property
    def env(self) -> dict[str, str]:
        """Environment of the lab's programs: nothing of the caller's but PATH and HOME.

        A proxy of the caller's, for one, would swallow the pulls from the lab's registry.
        """
        path = self.binaries.search_path(os.environ.get("PATH", "/usr/bin:/bin"))
        return {"PATH": path, "HOME": os.environ.get("HOME", "/"), "LANG": "C.UTF-8"}

    def log(self, component: str) -> Path:
        """Return the log of a component."""
        return self.folder.logs / f"{component}.log"

    def pid_file(self, component: str) -> Path:
        """Return the pid file of a component."""
        return self.folder.pids / component

    def process(self, component: str) -> procs.Process | None:
        """Return the running process of a component; None if it does not run."""
        return procs.Process.read(self.pid_file(component))

    def alive(self, component: str) -> Callable[[], bool]:
        """Return a function that tells whether a component still runs."""
        return lambda: self.process(component) is not None

    def start(
        self, component: str, command: Sequence[str | Path], env: Mapping[str, str] | None = None
    ) -> procs.Process:
        """Start a component in the background, with its log and pid file.

        Parameters
        ----------
        component
            Name of the log and the pid file.
        command
            Program and arguments.
        env
            Variables beyond the usual ones.
        """
        return procs.start(
            command,
            log=self.log(component),
            pid_file=self.pid_file(component),
            mark=self.folder.path,
            env={**self.env, **(env or {})},
        )


def free_ports(names: Sequence[str]) -> dict[str, int]:
    """Return a port of loopback that nobody listens on for each name.

    Raises
    ------
    LabError
        If there is none to be found.
    """
    found: dict[str, int] = {}
    with ExitStack() as stack:
        for port in random.sample(_PORTS, k=min(len(_PORTS), 200 + len(names))):
            if len(found) == len(names):
                break
            probe = stack.enter_context(socket.socket())
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found[names[len(found)]] = port
    if len(found) < len(names):
        raise LabError(f"no {len(names)} free ports between {_PORTS.start} and {_PORTS.stop} on 127.0.0.1")
    return found
