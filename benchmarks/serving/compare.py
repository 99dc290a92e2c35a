"""The model server beside its peers: latency, throughput and CPU; same models, same engine, one machine.

    python benchmarks/serving/compare.py [--mlserver PYTHON] [--kserve PYTHON] [--plot FILE.svg]

PYTHON is the interpreter of an environment that holds the peer and onnxruntime, such as
`python -m venv /tmp/mlserver && /tmp/mlserver/bin/pip install mlserver onnxruntime`. Peers that are not named
are left out.

Every server runs ONNX Runtime with one thread. Each gets the same numbers over gRPC: ours as TensorFlow's
PredictRequest, the peers as the ModelInferRequest of the Open Inference Protocol with raw contents; each
reply is checked. Requests are sent one at a time, to the servers in turns, so that noise hits all alike (p50,
p99, CPU of the server's processes), and four at a time, round by round (requests per second). Two more lines
say what there is to lose: a bare gRPC server that returns its request, and the engine alone in this process.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from models import Case, cases
from overhead import LIMIT, OPTIONS, START_SECONDS, cpu_seconds, free_port
from plot import Bar, write_plot

from serval_serving.engines.onnx import OnnxEngine, OnnxOptions
from serval_serving.wire import messages, rpc
from serval_serving.wire.tensors import from_array, varint

HERE = Path(__file__).parent
INFER = "/inference.GRPCInferenceService/ModelInfer"
TOGETHER = 4
V2_TYPES = {"float32": "FP32", "uint8": "UINT8"}
ENGINE = "engine alone"


@dataclass
class Server:
    """One server with one model, and what was measured of it."""

    name: str
    process: subprocess.Popen[bytes]
    call: Callable[[], bytes]
    cpu_ms: list[float] = field(default_factory=list)
    wall_ms: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Line:
    """One line of the table."""

    case: str
    server: str
    p50: float
    p99: float
    cpu: float
    rate: float | None


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--case", action="append", help="only this one; may be repeated")
    parser.add_argument("--mlserver", type=Path, help="interpreter of an environment with MLServer")
    parser.add_argument("--kserve", type=Path, help="interpreter of an environment with KServe")
    parser.add_argument("--plot", type=Path, help="write a plot of the CPU time per request there")
    told = parser.parse_args()
    peers = {name: python for name in ("mlserver", "kserve") if (python := getattr(told, name))}
    lines: list[Line] = []
    print(f"{os.cpu_count()} CPUs, {told.rounds} rounds; CPU is that of the server's processes", flush=True)
    print("| case | server | p50 ms | p99 ms | CPU-ms per request | requests/s, 4 at a time |", flush=True)
    print("|---|---|---|---|---|---|", flush=True)
    for case in cases():
        if not told.case or case.name in told.case:
            for line in compare(case, told.rounds, peers):
                rate = f"{line.rate:.0f}" if line.rate is not None else ""
                figures = f"{line.p50:.2f} | {line.p99:.2f} | {line.cpu:.2f} | {rate}"
                print(f"| {line.case} | {line.server} | {figures} |", flush=True)
                lines.append(line)
    if told.plot:
        write_plot(told.plot, [Bar(line.case, line.server, line.cpu) for line in lines])


def compare(case: Case, rounds: int, peers: dict[str, Path]) -> list[Line]:
    """Measure all servers with one model."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m" / "1" / "model.onnx"
        path.parent.mkdir(parents=True)
        case.make(path)
        model = OnnxEngine(OnnxOptions(intra_op_threads=1)).load(path.parent)
        name, array = case.input
        engine = lambda: model.run("serving_default", {name: array}, [case.output])[0]  # noqa: E731
        expected = engine().tobytes()
        servers: list[Server] = []
        try:
            for start in (_echo, _serval, *(partial(_peer, name, python) for name, python in peers.items())):
                # One by one: those that run must be ended where the next does not start.
                servers.append(start(case, path))  # noqa: PERF401
            for server in servers:
                if server.name != "echo" and expected[:4000] not in server.call():
                    raise SystemExit(f"{server.name} answers {case.name} with other numbers")
            alone = _measure(servers, case.requests, rounds, engine)
        finally:
            for server in servers:
                server.process.terminate()
                server.process.wait(LIMIT)
    return [Line(case.name, ENGINE, alone, alone, alone, None), *(_line(case.name, one) for one in servers)]


def _measure(servers: Sequence[Server], requests: int, rounds: int, engine: Callable[[], Any]) -> float:
    """Measure all in turns; the answer is the CPU-ms of the engine alone."""
    alone = []
    _one_at_a_time(servers, requests)
    for server in servers:
        server.cpu_ms.clear()
        server.wall_ms.clear()
    for _ in range(rounds):
        started = time.process_time()
        for _ in range(requests):
            engine()
        alone.append((time.process_time() - started) / requests * 1000)
        _one_at_a_time(servers, requests)
        for server in servers:
            _some_at_a_time(server, requests)
    return statistics.median(alone)


def _one_at_a_time(servers: Sequence[Server], requests: int) -> None:
    """Send each server one request after the other, in turns, whose order changes each time."""
    before = [_cpu(server.process.pid) for server in servers]
    for number in range(requests):
        for server in servers if number % 2 else reversed(servers):
            started = time.perf_counter()
            server.call()
            server.wall_ms.append((time.perf_counter() - started) * 1000)
    for server, used in zip(servers, before, strict=True):
        server.cpu_ms.append((_cpu(server.process.pid) - used) / requests * 1000)


def _some_at_a_time(server: Server, requests: int) -> None:
    """Send requests from some threads at once."""
    with ThreadPoolExecutor(TOGETHER) as pool:
        started = time.perf_counter()
        for reply in pool.map(lambda _: server.call(), range(requests)):
            assert reply
        server.rates.append(requests / (time.perf_counter() - started))


def _line(case: str, server: Server) -> Line:
    """Sum up what was measured of a server."""
    ordered = sorted(server.wall_ms)
    return Line(
        case,
        server.name,
        statistics.median(ordered),
        ordered[int(len(ordered) * 0.99)],
        statistics.median(server.cpu_ms),
        statistics.median(server.rates),
    )


def _cpu(pid: int) -> float:
    """Read the CPU seconds of a process and of all below it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return cpu_seconds(pid) + sum(_cpu(int(child)) for child in children)


def _echo(case: Case, _path: Path) -> Server:
    """Start the bare server; it gets our own request."""
    port = free_port()
    command = [str(HERE / "overhead.py"), "--echo", str(port)]
    return _started("echo", sys.executable, command, port, rpc.PREDICT.path, _predict_request(case))


def _serval(case: Case, path: Path) -> Server:
    """Start ours."""
    port = free_port()
    flags = [f"--port={port}", "--model_name=m", f"--model_base_path={path.parent.parent}"]
    command = ["-m", "serval_serving.server", *flags, "--tensorflow_intra_op_parallelism=1"]
    return _started("serval", sys.executable, command, port, rpc.PREDICT.path, _predict_request(case))


def _peer(name: str, python: Path, case: Case, path: Path) -> Server:
    """Start another."""
    port = free_port()
    command = [str(HERE / f"peer_{name}.py"), str(path), str(port), str(free_port())]
    return _started(name, str(python), command, port, INFER, _infer_request(*case.input))


def _started(name: str, python: str, command: list[str], port: int, method: str, body: bytes) -> Server:
    """Start a server and wait until it answers."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([python, *command], **quiet)
    channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS)
    call = channel.unary_unary(method)
    server = Server(name, process, lambda: call(body, timeout=LIMIT))
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            server.call()
        except grpc.RpcError:
            # Its port may be open before its model is loaded.
            if time.monotonic() > end or process.poll() is not None:
                process.kill()
                raise SystemExit(f"{name} does not serve: {python} {' '.join(command)}") from None
            time.sleep(0.2)
        else:
            return server


def _predict_request(case: Case) -> bytes:
    """Write a request of TensorFlow's predict API."""
    name, array = case.input
    request = messages.PredictRequest(model_spec=messages.ModelSpec(name="m"), output_filter=[case.output])
    request.inputs[name].CopyFrom(from_array(array, typed=False))
    return bytes(request.SerializeToString())


def _infer_request(name: str, array: np.ndarray) -> bytes:
    """Write a request of the Open Inference Protocol: 1 model, 5 inputs {1 name, 2 type, 3 shape}, 7 raw."""

    def chunk(number: int, content: bytes) -> bytes:
        return varint(number << 3 | 2) + varint(len(content)) + content

    shape = b"".join(varint(size) for size in array.shape)
    kind = V2_TYPES[array.dtype.name].encode()
    tensor = chunk(1, name.encode()) + chunk(2, kind) + chunk(3, shape)
    return chunk(1, b"m") + chunk(5, tensor) + chunk(7, array.tobytes())


if __name__ == "__main__":
    main()
