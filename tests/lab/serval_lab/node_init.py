"""First process of a node, inside its namespaces: mounts, network, then the node's programs.

Run as ``python node_init.py NODE.json`` by `serval_lab.nodes`. It stands alone (standard library only, no
import of the package), so that a node starts quickly. A program that ends is started again, as systemd
would do on a real node; when this process dies, the kernel ends all others and takes mounts, interfaces
and rules with them.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

LINK_LIMIT = 30.0
SOCKET_LIMIT = 60.0
RESTART_AFTER = 1.0
LOOK_EVERY = 0.25


def say(text: str) -> None:
    """Write a line to the node's log."""
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stdout.flush()


def run(*command: str, stdin: str | None = None) -> None:
    """Run a program to its end; its failure ends the node."""
    subprocess.run(command, input=stdin, text=True, check=True, timeout=30)


def cover(path: str, keep: list[str]) -> None:
    """Put an empty file system over the machine's `path`, but for the folders in `keep` that lie below.

    A node has its own /run and /var/lib: the machine's sockets and another engine's state are not its.
    """
    inside = [folder for folder in keep if Path(folder).is_relative_to(path) and Path(folder).is_dir()]
    handles = [(folder, os.open(folder, os.O_PATH)) for folder in inside]
    run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", path)
    for folder, handle in handles:
        Path(folder).mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["mount", "--no-canonicalize", "--bind", f"/proc/self/fd/{handle}", folder],
            check=True,
            timeout=30,
            pass_fds=[handle],
        )
        os.close(handle)


def mounts(config: dict[str, Any]) -> None:
    """Make the node's file system out of the machine's."""
    run("mount", "--make-rprivate", "/")
    for path in ("/run", "/var/lib"):
        cover(path, config["keep"])
    for source, target in config["binds"].items():
        Path(target).mkdir(parents=True, exist_ok=True)
        run("mount", "--bind", source, target)
    # Volumes that the kubelet mounts must show up in containers that mount its folder.
    run("mount", "--make-shared", "/var/lib/kubelet")


def network(config: dict[str, Any]) -> None:
    """Set up eth0, which the machine's side puts here, and the routes to the other nodes' pods."""
    deadline = time.monotonic() + LINK_LIMIT
    while not _has_eth0():
        if time.monotonic() > deadline:
            raise SystemExit(f"the machine's side has given this node no eth0 within {LINK_LIMIT:.0f} s")
        time.sleep(0.01)
    lines = ["link set lo up", f"addr add {config['address']} dev eth0", "link set eth0 up"]
    lines += [f"route add {pods} via {gateway}" for pods, gateway in config["routes"].items()]
    run("ip", "-batch", "-", stdin="\n".join(lines) + "\n")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def _has_eth0() -> bool:
    # /sys still shows the interfaces of the machine's namespace; this asks the node's own.
    return any(name == "eth0" for _, name in socket.if_nameindex())


class Supervisor:
    """Starts the node's programs, and starts again those that end.

    Parameters
    ----------
    config
        What `serval_lab.nodes` wrote for this node.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self._programs: dict[str, list[str]] = config["programs"]
        self._logs = Path(config["logs"])
        self._name: str = config["name"]
        self._running: dict[int, str] = {}
        self._due: dict[str, float] = {}
        self._stopped = set[str]()

    def start(self, program: str) -> None:
        """Start a program; its log is continued."""
        self._stopped.discard(program)
        with (self._logs / f"{self._name}-{program}.log").open("ab") as log:
            child = subprocess.Popen(
                self._programs[program],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        child.returncode = 0  # reaped below, with the orphans
        self._running[child.pid] = program

    def start_until(self, program: str, works: Callable[[], bool], limit: float) -> None:
        """Start a program and wait until it works; otherwise the node ends, with the program's last words."""
        self.start(program)
        deadline = time.monotonic() + limit
        while not works():
            self.watch()
            if program in self._due or time.monotonic() > deadline:
                log = self._logs / f"{self._name}-{program}.log"
                last = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
                raise SystemExit(f"{program} does not come up; the end of its log:\n{last}")
            time.sleep(0.02)

    def keep(self, program: str, command: list[str]) -> None:
        """Start a program unless it runs or is about to be started again."""
        self._programs[program] = command
        if program not in self._running.values() and program not in self._due:
            self.start(program)

    def stop(self, program: str) -> bool:
        """Kill a program and do not start it again; return whether it is gone."""
        self._stopped.add(program)
        self._due.pop(program, None)
        pids = [pid for pid, name in self._running.items() if name == program]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        return not pids

    def watch(self) -> None:
        """Reap whatever has ended; start the node's own programs again after a moment."""
        now = time.monotonic()
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            program = self._running.pop(pid, None)
            if program in self._stopped:
                say(f"{program} is stopped, as told")
            elif program:
                say(f"{program} ended with status {os.waitstatus_to_exitcode(status)}; starting it again")
                self._due[program] = now + RESTART_AFTER
        for program in [program for program, due in self._due.items() if due <= now]:
            del self._due[program]
            self.start(program)


def keep_plugins(supervisor: Supervisor, folder: Path, command: list[str]) -> None:
    """See that the device plugin of each control file runs, or does not where it is to be stopped."""
    for file in sorted(folder.glob("*.json")):
        state, program = json.loads(file.read_text()), f"devices-{file.stem}"
        if not state["stopped"]:
            supervisor.keep(program, [*command, str(file)])
        elif supervisor.stop(program):
            status = file.with_suffix(".status")  # a plugin's own way to say that the change is made
            scratch = status.with_name(f".{status.name}.new")
            scratch.write_text(str(state["generation"]))
            scratch.replace(status)


def main(path: str) -> None:
    """Be the node that `path` describes, until killed."""
    config = json.loads(Path(path).read_text())
    mounts(config)
    socket.sethostname(config["name"])
    network(config)
    supervisor = Supervisor(config)
    supervisor.start("kube-proxy")
    supervisor.start_until("containerd", Path(config["containerd_socket"]).is_socket, SOCKET_LIMIT)
    supervisor.start("kubelet")
    say("the node's programs are started")
    devices = Path(config["devices"])
    while True:
        time.sleep(LOOK_EVERY)
        supervisor.watch()
        keep_plugins(supervisor, devices, config["device_plugin"])


if __name__ == "__main__":
    main(sys.argv[1])
