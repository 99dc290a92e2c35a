"""What front mode adds: the same requests to a model server, and to a front that stands before it.

    python benchmarks/serving/front.py [--requests 200] [--rounds 5] [--case identity] [--rest]

The server behind is our own, with ONNX Runtime and one thread: the front does the same work before any. Both
are processes of their own on this machine. Requests go one at a time by each way, in rounds that take turns
so that noise hits both alike (p50, p99, CPU of both processes), then four at a time (requests per second).
With --rest they are JSON to the REST API.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import urllib3

sys.path.insert(0, str(Path(__file__).parent))

from models import Case, cases
from overhead import LIMIT, OPTIONS, START_SECONDS, cpu_seconds, free_port

from serval_serving.wire import messages, rpc
from serval_serving.wire.tensors import from_array

TOGETHER = 4
CASES = ("identity", "jpeg", "digits")
DIRECT, FRONT = "direct", "front"


@dataclass
class Way:
    """One way to the model, and what was measured on it."""

    name: str
    call: Any
    wall_ms: list[float] = field(default_factory=list)
    front_ms: list[float] = field(default_factory=list)
    behind_ms: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=200, help="requests per round and way")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--case", action="append", choices=CASES, help="only this one; may be repeated")
    parser.add_argument("--rest", action="store_true", help="REST in place of gRPC")
    told = parser.parse_args()
    print(f"{os.cpu_count()} CPUs, {told.requests} requests x {told.rounds} rounds")
    print("| case | way | p50 ms | p99 ms | front CPU-ms | server CPU-ms | requests/s, 4 at a time |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for case in cases():
        if case.name in (told.case or CASES):
            for way in compare(case, told.requests, told.rounds, rest=told.rest):
                print(line(case.name, way), flush=True)


def compare(case: Case, requests: int, rounds: int, *, rest: bool) -> list[Way]:
    """Measure both ways with one model."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        path = folder / "m" / "1" / "model.onnx"
        path.parent.mkdir(parents=True)
        case.make(path)
        ports = free_port(), free_port()
        rest_ports = free_port(), free_port()
        model = (f"--model_base_path={folder / 'm'}", "--tensorflow_intra_op_parallelism=1")
        behind = started(stack, ports[0], rest_ports[0], *model)
        front = started(stack, ports[1], rest_ports[1], f"--upstream=127.0.0.1:{ports[0]}")
        calls = [stack.enter_context(opened(port)).unary_unary(rpc.PREDICT.path) for port in ports]
        if rest:
            calls = [poster(port) for port in rest_ports]
        ways = [Way(name, call) for name, call in zip((DIRECT, FRONT), calls, strict=True)]
        body = json.dumps({"inputs": case.input[1].tolist()}).encode() if rest else request_of(case)
        first, second = (way.call(body, timeout=LIMIT) for way in ways)
        assert first == second, "the front answers something else"
        for number in range(rounds + 1):
            for way in ways if number % 2 else ways[::-1]:
                measure(way, body, requests, front.pid, behind.pid)
            if number == 0:
                for way in ways:
                    for values in (way.wall_ms, way.front_ms, way.behind_ms, way.rates):
                        values.clear()
        return ways


def poster(port: int) -> Callable[..., bytes]:
    """Make what sends a body to the REST API."""
    pool = urllib3.PoolManager(maxsize=TOGETHER)
    url = f"http://127.0.0.1:{port}/v1/models/m:predict"

    def post(body: bytes, timeout: float) -> bytes:
        reply = pool.request("POST", url, body=body, timeout=timeout)
        assert reply.status == 200, reply.data
        return reply.data

    return post


def started(stack: ExitStack, port: int, rest_port: int, *flags: str) -> subprocess.Popen[bytes]:
    """Start a server that ends with the stack."""
    # What is measured is requests, not connections made anew.
    ports = (f"--port={port}", f"--rest_api_port={rest_port}")
    own = (*ports, "--model_name=m", "--max_connection_age_seconds=0")
    command = [sys.executable, "-m", "serval_serving.server", *own, *flags]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    stack.callback(process.wait, LIMIT)
    stack.callback(process.kill)
    return process


def opened(port: int) -> grpc.Channel:
    """Open a channel once the port is open."""
    channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS)
    grpc.channel_ready_future(channel).result(START_SECONDS)
    return channel


def request_of(case: Case) -> bytes:
    """Write the request."""
    name, array = case.input
    request = messages.PredictRequest(model_spec=messages.ModelSpec(name="m"), output_filter=[case.output])
    request.inputs[name].CopyFrom(from_array(array, typed=False))
    return bytes(request.SerializeToString())


def measure(way: Way, body: bytes, requests: int, front: int, behind: int) -> None:
    """Send requests one after the other, then some at once."""
    before = cpu_seconds(front), cpu_seconds(behind)
    for _ in range(requests):
        since = time.perf_counter()
        way.call(body, timeout=LIMIT)
        way.wall_ms.append((time.perf_counter() - since) * 1000)
    way.front_ms.append((cpu_seconds(front) - before[0]) / requests * 1000)
    way.behind_ms.append((cpu_seconds(behind) - before[1]) / requests * 1000)
    with ThreadPoolExecutor(TOGETHER) as pool:
        since = time.perf_counter()
        for reply in pool.map(lambda _: way.call(body, timeout=LIMIT), range(requests)):
            assert reply
        way.rates.append(requests / (time.perf_counter() - since))


def line(case: str, way: Way) -> str:
    """Write a line of the table."""
    ordered = sorted(way.wall_ms)
    figures = [
        f"{statistics.median(ordered):.2f}",
        f"{ordered[int(len(ordered) * 0.99)]:.2f}",
        f"{statistics.median(way.front_ms):.2f}" if way.name == FRONT else "",
        f"{statistics.median(way.behind_ms):.2f}",
        f"{statistics.median(way.rates):.0f}",
    ]
    return f"| {case} | {way.name} | {' | '.join(figures)} |"


if __name__ == "__main__":
    main()
