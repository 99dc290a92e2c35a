"""Which of our modules one request of the model server passes through, directly and behind a front.

The server, or the front, runs in this process. Every function that a thread enters while it serves a request
is noted. A module counts if each of several requests passes it, since threads also do other work.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

import grpc
import numpy as np
import urllib3

import serval_serving
from serval_serving.proxy.proxy_server import ProxyServer
from serval_serving.server import flags
from serval_serving.server.__main__ import engines
from serval_serving.server.lifecycle import ModelServer
from serval_serving.wire import messages, rpc
from serval_serving.wire.tensors import from_array
from support.ports import free_port
from unit.serving.engines.onnx_models import half_plus_two, write

WARM_UP: Final = 5
NOTED: Final = 5
START_SECONDS: Final = 60.0
LIMIT: Final = 30.0
_PACKAGE: Final = Path(serval_serving.__file__).parent


class Recorder:
    """Notes modules of the package while it is on."""

    def __init__(self) -> None:
        self.on = False
        self._files: set[str] = set()

    def note(self, frame: FrameType, event: str, _argument: object) -> None:
        """Take an event of `sys.setprofile`."""
        if self.on and event == "call":
            self._files.add(frame.f_code.co_filename)

    def modules(self, request: Callable[[], object]) -> list[str]:
        """Make requests, and name the modules that each of those behind the first passes."""
        for _ in range(WARM_UP):
            request()
        noted = [self._one(request) for _ in range(NOTED)]
        paths = (Path(file) for file in set.intersection(*noted))
        inside = (path.relative_to(_PACKAGE) for path in paths if path.is_relative_to(_PACKAGE))
        return sorted(str(path.with_suffix("")).replace("/", ".") for path in inside)

    def _one(self, request: Callable[[], object]) -> set[str]:
        """Make a request and return the files that it passes."""
        self._files = set()
        self.on = True
        request()
        self.on = False
        return self._files


def main(arguments: Sequence[str] = ()) -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks request-modules", description=__doc__)
    parser.add_argument("--names", action="store_true", help="name the modules too")
    names = parser.parse_args(arguments).names
    recorder = Recorder()
    threading.setprofile(recorder.note)
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        write(base, 1, half_plus_two())
        direct = stack.enter_context(running(f"--model_base_path={base}"))
        print("| request | way | modules of serval_serving |")
        print("|---|---|---|")
        for request, send in requests(direct):
            show(request, "direct", recorder.modules(send), names)
        behind = free_port()
        command = [sys.executable, "-m", "serval_serving.server", f"--port={behind}", "--model_name=m"]
        process = subprocess.Popen([*command, f"--model_base_path={base}"], stderr=subprocess.DEVNULL)
        stack.callback(process.wait, LIMIT)
        stack.callback(process.kill)
        front = stack.enter_context(running(f"--upstream=127.0.0.1:{behind}"))
        for request, send in requests(front):
            show(request, "front", recorder.modules(send), names)
    threading.setprofile(None)
    sys.setprofile(None)


def show(request: str, way: str, modules: Sequence[str], names: bool) -> None:
    """Print a row."""
    print(f"| {request} | {way} | {len(modules)}{': ' + ', '.join(modules) if names else ''} |", flush=True)


@contextmanager
def running(*arguments: str) -> Iterator[tuple[int, int]]:
    """Run a server in threads of this process; the value is its ports, of gRPC and of HTTP."""
    ports = free_port(), free_port()
    own = (f"--port={ports[0]}", f"--rest_api_port={ports[1]}", "--model_name=m", "--drain_seconds=0")
    settings = flags.parse((*own, *arguments)).settings
    server: Any = (
        ProxyServer(settings) if settings.upstream else ModelServer(settings, engines(settings, 1), 1)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{ports[0]}") as channel:
            grpc.channel_ready_future(channel).result(START_SECONDS)
        yield ports
    finally:
        server.stop()
        thread.join(LIMIT)


def requests(ports: tuple[int, int]) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield the requests of each protocol: what it is called, and what sends it."""
    message = messages.PredictRequest(model_spec=messages.ModelSpec(name="m"))
    message.inputs["x"].CopyFrom(from_array(np.ones(1, np.float32)))
    body = message.SerializeToString()
    with grpc.insecure_channel(f"127.0.0.1:{ports[0]}") as channel:
        call = channel.unary_unary(rpc.PREDICT.path)
        yield "gRPC Predict", lambda: call(body, timeout=LIMIT)
    with urllib3.PoolManager() as pool:
        url, rows = f"http://127.0.0.1:{ports[1]}/v1/models/m:predict", json.dumps({"instances": [1.0]})
        yield "REST predict", lambda: pool.request("POST", url, body=rows, timeout=LIMIT, retries=False)
