"""A port of this machine that leads to a Service, by ``kubectl port-forward``."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from serval_serving.cli.errors import UNREACHABLE, CliError

if TYPE_CHECKING:
    from serval_serving.cli.cluster import Kube

START_SECONDS: Final = 15.0
_STOP_SECONDS: Final = 5.0
_READY: Final = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")


class Forward:
    """A running ``kubectl port-forward``; ends with its ``with`` statement.

    Parameters
    ----------
    command:
        The program and its arguments.
    seconds:
        How long it may take to be ready.

    Raises
    ------
    CliError
        If it is not ready in time.
    """

    def __init__(self, command: list[str], seconds: float = START_SECONDS) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - no shell; the names come from the cluster or the user
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        timer = threading.Timer(seconds, self._process.kill)
        timer.start()
        try:
            self.port = self._wait()
        except BaseException:
            self._stop()
            raise
        finally:
            timer.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _wait(self) -> int:
        """Read until kubectl names the port."""
        for line in self._process.stdout or ():
            found = _READY.search(line)
            if found is not None:
                return int(found[1])
        words = self._process.stderr.read().strip() if self._process.stderr else ""
        raise CliError(f"kubectl port-forward failed: {words or 'it was not ready in time'}", UNREACHABLE)

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.communicate(timeout=_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()


def port_forward(kube: Kube, service: str, port: int) -> Forward:
    """Forward a free port of this machine to `port` of the Service.

    Raises
    ------
    CliError
        If there is no kubectl, or it fails.
    """
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        raise CliError(
            f"Service {service} cannot be reached from here; with kubectl on PATH a port would be forwarded",
            UNREACHABLE,
        )
    command = [kubectl, "port-forward", "--address=127.0.0.1", f"--namespace={kube.namespace}"]
    if kube.kubeconfig is not None:
        command.append(f"--kubeconfig={kube.kubeconfig}")
    if kube.context is not None:
        command.append(f"--context={kube.context}")
    return Forward([*command, f"service/{service}", f":{port}"])
