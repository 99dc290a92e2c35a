"""Handles of what a test does to the control plane: programs that end and come back, etcd's older states."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serval_lab import control_plane, lifecycle, nodes, services
from serval_lab.context import Context
from serval_lab.control_plane import APISERVER, ETCD
from serval_lab.errors import LabError
from serval_lab.etcd import Etcd
from serval_lab.procs import Process, kill_all
from serval_lab.wait import wait_for

FREEZE_LIMIT = 5.0


class Server:
    """One program of a running lab.

    Parameters
    ----------
    context
        The lab.
    name
        Name of the program, as `status` lists it.

    Raises
    ------
    LabError
        If the lab has no such program.
    """

    def __init__(self, context: Context, name: str) -> None:
        starts = {**lifecycle.startable(context), **lifecycle.sources(context)}
        if name not in starts:
            raise LabError(f"lab {context.name} runs no {name}; it runs {', '.join(starts)}")
        self._context = context
        self._start = starts[name]
        self.name = name

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self._context.process(self.name) is not None

    def kill(self) -> None:
        """Kill it: its process is gone when this returns, and nobody starts it until `start`."""
        process = self._context.process(self.name)
        if process and kill_all([process]):
            raise LabError(f"{self.name} (process {process.pid}) does not end")

    def start(self) -> None:
        """Start it again and wait until it answers; nothing happens while it runs."""
        if not self.alive:
            self._start()


class EtcdServer(Server):
    """etcd of a running lab.

    Parameters
    ----------
    context
        The lab.
    """

    def __init__(self, context: Context) -> None:
        super().__init__(context, ETCD)

    @property
    def revision(self) -> int:
        """Revision of the data: it grows by one with each write that is kept."""
        store = Etcd(control_plane.etcd_url(self._context))
        try:
            return store.revision()
        finally:
            store.close()

    def snapshot(self) -> Path:
        """Copy etcd's data as they are now and return the copy, which ends with the lab.

        Writers wait meanwhile, for about a tenth of a second.

        Raises
        ------
        LabError
            If etcd does not run.
        """
        process = self._context.process(ETCD)
        if process is None:
            raise LabError("etcd does not run: there is nothing to copy")
        folder = self._context.folder.path / "snapshots"
        folder.mkdir(exist_ok=True)
        with _frozen(process):
            # What it answered is in its log by then, and a copy of a stopped process's files is what its
            # death would leave: etcd starts from that.
            copy = folder / str(len(list(folder.iterdir())))
            shutil.copytree(control_plane.etcd_data(self._context), copy)
        return copy

    def restore(self, snapshot: Path) -> None:
        """Put an older state back, and return once the API server is ready with it.

        etcd and the API server are killed and started again, as is whatever else of the lab keeps what it
        once read: controllers, scheduler, DNS, the sources of metrics, each node's kubelet and kube-proxy. So
        an administrator would do it, since to a client that goes on nothing new happens until etcd's revision
        has passed the last one it saw. Whatever is not the lab's own goes on.
        """
        context = self._context
        starts = {**lifecycle.startable(context), **lifecycle.sources(context)}
        again = [name for name in starts if name != services.REGISTRY and context.process(name)]
        again = [ETCD, APISERVER, *(name for name in again if name not in (ETCD, APISERVER))]
        for name in reversed(again):
            Server(context, name).kill()
        data = control_plane.etcd_data(context)
        shutil.rmtree(data)
        shutil.copytree(snapshot, data)
        for name in again:
            starts[name]()
        control_plane.wait_controllers(context)
        nodes.restart_programs(context)


@contextmanager
def _frozen(process: Process) -> Iterator[None]:
    """Let a process stand still."""
    os.kill(process.pid, signal.SIGSTOP)
    try:
        wait_for(f"process {process.pid} standing still", lambda: process.stopped, FREEZE_LIMIT, every=0.005)
        yield
    finally:
        os.kill(process.pid, signal.SIGCONT)
