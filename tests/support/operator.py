"""The operator as a process of the machine, against a cluster of the tests, with the chart's permissions."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import urllib3
import yaml

from serval_operator.api.capabilities import CAPABILITIES, DEVICE_REPORT
from support.ports import free_port
from support.wait import until

ROOT = Path(__file__).resolve().parents[2]
SERVER = "registry.example/serval-server:test"
SOURCES = ("contract", "operator", "serving", "tests")
STOP_LIMIT = 30

CONFIGURATION = {
    "apiVersion": "config.serval.dev/v1alpha1",
    "kind": "OperatorConfiguration",
    "fetch": {
        "image": "registry.example/serval-operator:test",
        "maxBytes": "1Gi",
        "maxEntries": 1000,
        "resources": {},
    },
    "defaults": {"runtime": "serval"},
    "runtimes": [
        {
            "name": "serval",
            "frameworks": ["TensorFlow"],
            # The same image for all: no container of these tests is started.
            "images": dict.fromkeys(("default", "nvidia-gpu", "spot", "board", "rare", "u250"), SERVER),
            "capabilities": [name for name in CAPABILITIES if name != DEVICE_REPORT.name],
        },
        {
            "name": "tensorflow-serving",
            "frameworks": ["TensorFlow"],
            "images": {
                "default": "registry.example/tensorflow/serving:test",
                "nvidia-gpu": "registry.example/tensorflow/serving:test-gpu",
            },
            "args": ["--monitoring_config_file=/models/monitoring.config"],
            "capabilities": ["grpc-predict", "rest-predict", "metrics"],
        },
        {
            "name": "telling",
            "frameworks": ["TensorFlow"],
            "images": {"default": SERVER, "nvidia-gpu": SERVER, "u250": SERVER},
            "capabilities": list(CAPABILITIES),
        },
    ],
    "profiles": [
        {"name": "nvidia-gpu", "resourceName": "nvidia.com/gpu"},
        {"name": "cpu"},
        {"name": "spot", "resourceName": "example.com/spot", "scalable": True},
        {"name": "board", "resourceName": "example.com/board"},
        {"name": "rare", "resourceName": "example.com/rare"},
        {"name": "u250", "resourceName": "emulated.serval.dev/u250", "engine": "emulator"},
    ],
    "conversion": {
        "image": "registry.example/serval-converter:test",
        "artifacts": {"repositoryPrefix": "registry.example/serval", "pushSecret": "artifact-push"},
    },
}


class OperatorProcess:
    """One run of the operator.

    Parameters
    ----------
    kubeconfig:
        Whose permissions it has.
    folder:
        Where its configuration and log go.
    module:
        What runs: the operator, or one with kinds of tests.
    first:
        Run it as process 1 of its own PID namespace, as in a container. The kernel gives that process no
        signal that it does not handle. Needs root.
    environment:
        Settings beside the usual ones.
    """

    def __init__(
        self,
        kubeconfig: Path,
        folder: Path,
        *,
        module: str = "serval_operator",
        first: bool = False,
        **environment: str,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "operator.log"
        self._module = module
        self.configuration = folder / "config.yaml"
        self.configuration.write_text(yaml.safe_dump(CONFIGURATION))
        self.port = free_port()
        self._environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": ":".join(str(ROOT / source) for source in SOURCES),
            "KUBECONFIG": str(kubeconfig),
            "SERVAL_CONFIG_FILE": str(self.configuration),
            "SERVAL_HTTP_PORT": str(self.port),
            "SERVAL_LOG_FORMAT": "text",
            **environment,
        }
        self._first = ["unshare", "--pid", "--fork", "--kill-child"] if first else []
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the run."""
        assert self._process is not None, "not started"
        return int(self._children()[0]) if self._first else self._process.pid

    def handles(self, number: signal.Signals) -> bool:
        """Whether it has a handler for a signal."""
        if self._first and not self._children():
            return False
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        (caught,) = (line.split()[1] for line in lines if line.startswith("SigCgt:"))
        return bool(int(caught, 16) >> (number - 1) & 1)

    def _children(self) -> list[str]:
        assert self._process is not None, "not started"
        pid = self._process.pid
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()

    def start(self, *, wait: bool = True, limit: float = 30.0) -> OperatorProcess:
        """Start it; with ``wait``, return once it says that it is ready, within ``limit`` seconds."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [*self._first, sys.executable, "-m", self._module],
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if wait:
            until(f"the operator's readiness (log: {self.log})", self.ready, limit=limit)
        return self

    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process is not None and self._process.poll() is None

    def ready(self) -> bool:
        """Whether /readyz says yes. Fails when the process has ended."""
        assert self._process is not None
        assert self._process.poll() is None, f"the operator ended:\n{self.log.read_text()[-3000:]}"
        try:
            answer = urllib3.request(
                "GET", f"http://127.0.0.1:{self.port}/readyz", timeout=2.0, retries=False
            )
        except urllib3.exceptions.HTTPError:
            return False
        return answer.status == 200

    def readiness(self) -> str:
        """What /readyz says now."""
        url = f"http://127.0.0.1:{self.port}/readyz"
        return urllib3.request("GET", url, timeout=2.0, retries=False).data.decode()

    def metrics(self) -> str:
        """The Prometheus page."""
        return urllib3.request("GET", f"http://127.0.0.1:{self.port}/metrics", timeout=5.0).data.decode()

    def kill(self) -> None:
        """End it as the kernel's out-of-memory killer would: at once, with nothing cleaned."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(timeout=STOP_LIMIT)

    def wait(self, limit: float = STOP_LIMIT) -> int:
        """Wait until it ends; returns the exit code."""
        assert self._process is not None
        return self._process.wait(timeout=limit)

    def stop(self) -> int:
        """Ask it to stop, as a kubelet does; returns the exit code."""
        self.tell_to_stop()
        return self.wait()

    def tell_to_stop(self) -> None:
        """Send what a kubelet sends, and do not wait."""
        os.kill(self.pid, signal.SIGTERM)
