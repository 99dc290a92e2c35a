"""The cluster that the demo works on, through kubectl and Helm."""

from __future__ import annotations

import json
import queue
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from examples.demo.errors import DemoError

COMMAND_LIMIT_S = 60.0
FORWARD_LIMIT_S = 30.0
FIELD_MANAGER = "serval-demo"
TOOLS = ("kubectl", "helm")

_FORWARDING = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+) -> (\d+)")


class Cluster:
    """A cluster and how its services are reached from here.

    Parameters
    ----------
    environment:
        In which kubectl and Helm find the cluster (``KUBECONFIG``, ``PATH``).
    reaches_services:
        Whether this machine has a route to ClusterIPs, as with the lab; else ports are forwarded.
    """

    def __init__(self, environment: Mapping[str, str], *, reaches_services: bool) -> None:
        self._environment = dict(environment)
        self._reaches_services = reaches_services
        missing = [tool for tool in TOOLS if shutil.which(tool, path=self._environment.get("PATH")) is None]
        if missing:
            raise DemoError(f"{' and '.join(missing)} must be on the PATH to work on a cluster of your own")

    @property
    def reaches_services(self) -> bool:
        """Whether requests go to a Service, and not to one pod of it through a forwarded port."""
        return self._reaches_services

    def kubectl(self, *arguments: str, stdin: str | None = None, limit_s: float = COMMAND_LIMIT_S) -> str:
        """Run kubectl and return what it printed.

        Raises
        ------
        DemoError
            It failed, or was not done within ``limit_s`` seconds.
        """
        return self._run(["kubectl", *arguments], stdin, limit_s)

    def helm(self, *arguments: str, stdin: str | None = None, limit_s: float = COMMAND_LIMIT_S) -> str:
        """Run Helm and return what it printed; otherwise as `kubectl`."""
        return self._run(["helm", *arguments], stdin, limit_s)

    def apply(self, manifests: Iterable[Mapping[str, Any]]) -> None:
        """Apply objects server-side, taking over fields that someone else set."""
        content = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)})
        command = ["apply", "--server-side", "--force-conflicts", f"--field-manager={FIELD_MANAGER}"]
        self.kubectl(*command, "--filename=-", stdin=content)

    def get(self, resource: str, name: str, namespace: str) -> dict[str, Any] | None:
        """Read one object; None where there is none."""
        text = self.kubectl(
            "get", resource, name, f"--namespace={namespace}", "--output=json", "--ignore-not-found"
        )
        return dict(json.loads(text)) if text.strip() else None

    def select(self, resource: str, namespace: str, selector: str) -> list[dict[str, Any]]:
        """Read the objects that a label selector chooses."""
        text = self.kubectl(
            "get", resource, f"--namespace={namespace}", f"--selector={selector}", "--output=json"
        )
        return list(json.loads(text)["items"])

    def everything(self, resource: str) -> list[dict[str, Any]]:
        """Read all objects of a kind, those of all namespaces."""
        text = self.kubectl("get", resource, "--all-namespaces", "--output=json")
        return list(json.loads(text)["items"])

    def patch(self, resource: str, name: str, namespace: str, patch: Mapping[str, Any]) -> None:
        """Merge fields into an object."""
        where = f"--namespace={namespace}"
        self.kubectl("patch", resource, name, where, "--type=merge", f"--patch={json.dumps(patch)}")

    def delete(self, resource: str, name: str, namespace: str) -> None:
        """Delete an object if it is there; what it owns goes in its own time."""
        self.kubectl(
            "delete", resource, name, f"--namespace={namespace}", "--ignore-not-found", "--wait=false"
        )

    def wait_gone(self, names: Iterable[str], namespace: str, limit_s: float) -> None:
        """Wait until pods are gone, and with them what they hold.

        Raises
        ------
        DemoError
            One is still there after ``limit_s`` seconds.
        """
        pods = [f"pod/{name}" for name in names]
        if pods:
            options = [f"--namespace={namespace}", f"--timeout={limit_s:.0f}s"]
            self.kubectl("wait", "--for=delete", *pods, *options, limit_s=limit_s + COMMAND_LIMIT_S)

    def watch(self, resource: str, name: str, namespace: str, limit_s: float) -> Iterator[dict[str, Any]]:
        """Yield an object as it is and after each change.

        Raises
        ------
        DemoError
            ``limit_s`` seconds are over, or kubectl ended.
        """
        yield from self._watch(f"{resource} {name}", [resource, name, f"--namespace={namespace}"], limit_s)

    def watch_events(
        self, resource: str, namespace: str, selector: str, limit_s: float
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the type (``ADDED``, ``MODIFIED``, ``DELETED``) and the object of each change.

        Objects that exist already come first, as added. Otherwise as `watch`.
        """
        where = [resource, f"--namespace={namespace}", f"--selector={selector}", "--output-watch-events"]
        for event in self._watch(resource, where, limit_s):
            yield event["type"], event["object"]

    def _watch(self, what: str, arguments: Sequence[str], limit_s: float) -> Iterator[dict[str, Any]]:
        deadline = time.monotonic() + limit_s
        command = ["kubectl", "get", *arguments, "--watch", "--output=jsonpath={@}{'\\n'}"]
        with self._lines(command) as lines:
            while True:
                try:
                    line = lines.get(timeout=max(deadline - time.monotonic(), 0))
                except queue.Empty:
                    raise DemoError(f"{what} is not done after {limit_s:.0f} s") from None
                if line is None:
                    raise DemoError(f"kubectl stopped watching {what}")
                if line.startswith("{"):
                    yield json.loads(line)

    @contextmanager
    def reach(self, service: str, namespace: str, ports: Sequence[int]) -> Iterator[dict[int, str]]:
        """Give ``host:port`` for each of a Service's ports, as long as the block runs.

        Raises
        ------
        DemoError
            There is no such Service, or its ports cannot be forwarded.
        """
        if self._reaches_services:
            found = self.get("service", service, namespace)
            if found is None:
                raise DemoError(f"there is no service {namespace}/{service}")
            address = found["spec"]["clusterIP"]
            yield {port: f"{address}:{port}" for port in ports}
            return
        command = ["kubectl", "port-forward", f"--namespace={namespace}", f"service/{service}"]
        with self._lines([*command, *(f":{port}" for port in ports)]) as lines:
            yield _forwarded(lines, service, ports)

    def _run(self, command: Sequence[str], stdin: str | None, limit_s: float) -> str:
        try:
            done = subprocess.run(
                command,
                input=stdin,
                stdin=subprocess.DEVNULL if stdin is None else None,
                capture_output=True,
                text=True,
                timeout=limit_s,
                env=self._environment,
                check=True,
            )
        except subprocess.TimeoutExpired:
            raise DemoError(f"{_short(command)}: not done within {limit_s:.0f} s") from None
        except subprocess.CalledProcessError as error:
            said = (error.stderr or error.stdout).strip()[-2000:]
            raise DemoError(f"{_short(command)}: {said}") from None
        return done.stdout

    @contextmanager
    def _lines(self, command: Sequence[str]) -> Iterator[queue.Queue[str | None]]:
        """Run a program as long as the block runs; its output arrives line by line, then None."""
        lines: queue.Queue[str | None] = queue.Queue()
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self._environment,
        ) as process:
            reader = threading.Thread(target=_read_lines, args=(process, lines), daemon=True)
            reader.start()
            try:
                yield lines
            finally:
                process.kill()
                reader.join()


def _read_lines(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line)
    lines.put(None)


def _forwarded(lines: queue.Queue[str | None], service: str, ports: Sequence[int]) -> dict[int, str]:
    """Read from kubectl's words which local port stands for which of the Service's, in their order."""
    said: list[str] = []
    local: list[str] = []
    while len(local) < len(ports):
        try:
            line = lines.get(timeout=FORWARD_LIMIT_S)
        except queue.Empty:
            line = None
        if line is None:
            raise DemoError(f"the ports of service {service} cannot be forwarded: {''.join(said).strip()}")
        said.append(line)
        match = _FORWARDING.search(line)
        if match:
            local.append(f"127.0.0.1:{match[1]}")
    return dict(zip(ports, local, strict=True))


def _short(command: Sequence[str]) -> str:
    text = " ".join(command)
    return text if len(text) <= 120 else f"{text[:117]}..."
