"""Server processes for tests: started, waited for, and always ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import grpc
import urllib3

from support.ports import free_port

START_SECONDS = 90.0
STOP_SECONDS = 30.0
STEP_SECONDS = 0.02

REAL = ("-m", "serval_serving.server")
FAKE = (str(Path(__file__).with_name("fake_server.py")),)

DIRECT = "direct"
FRONT = "front"
"""Ways to a server, for tests that hold for both."""


def wait_until(what: str, condition: Callable[[], bool], seconds: float = START_SECONDS) -> None:
    """Wait for a condition, or fail saying for what."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds:g} s")
        time.sleep(STEP_SECONDS)


class Server:
    """One server process."""

    def __init__(
        self, program: Sequence[str], log: Path, *flags: str, grpc_port: int = 0, http_port: int = 0
    ) -> None:
        self.grpc_port = grpc_port or free_port()
        self.http_port = http_port or free_port()
        self.log_path = log
        ports = (f"--port={self.grpc_port}", f"--rest_api_port={self.http_port}")
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                [sys.executable, *program, *ports, *flags],
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=environment,
            )
        self.http = urllib3.PoolManager(timeout=urllib3.Timeout(connect=5, read=60), retries=False)

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.http_port}{path}"

    def get(self, path: str) -> urllib3.BaseHTTPResponse:
        return self.http.request("GET", self.url(path))

    def post(self, path: str, body: bytes | str, **headers: str) -> urllib3.BaseHTTPResponse:
        return self.http.request("POST", self.url(path), body=body, headers=headers)

    def channel(self) -> grpc.Channel:
        return grpc.insecure_channel(
            f"127.0.0.1:{self.grpc_port}",
            options=[("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)],
        )

    def listens(self) -> bool:
        """Whether both ports are open."""
        return all(_connects(port) for port in (self.grpc_port, self.http_port))

    def closed(self) -> bool:
        """Whether neither port is open."""
        return not any(_connects(port) for port in (self.grpc_port, self.http_port))

    def wait_ready(self) -> Server:
        def ready() -> bool:
            assert self.process.poll() is None, f"the server ended:\n{self.log}"
            return self.listens()

        wait_until("the server listens", ready)
        return self

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        return self.process.wait(seconds)


def front_of(behind: Server, log: Path, *flags: str, grpc_port: int = 0) -> Server:
    """Start a front before a server."""
    ports = (f"--upstream=127.0.0.1:{behind.grpc_port}", f"--upstream_rest=127.0.0.1:{behind.http_port}")
    return Server(REAL, log, *ports, *flags, grpc_port=grpc_port)


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """Hold a server, and kill it in the end if it still runs."""
    try:
        yield server
    finally:
        server.http.clear()
        if server.process.poll() is None:
            server.process.kill()
        server.process.wait(STOP_SECONDS)


@contextmanager
def reached(way: str, server: Server, log: Path, *flags: str) -> Iterator[Server]:
    """Reach a server itself (`DIRECT`), or through a front before it, which has these flags."""
    if way == DIRECT:
        yield server
        return
    with running(front_of(server, log, *flags)) as front:
        yield front.wait_ready()


def _connects(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex(("127.0.0.1", port)) == 0
