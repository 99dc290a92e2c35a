"""What unfriendly clients cost a well-behaved one, and how much memory they cost the model server.

For each attack a server of a small ONNX model is started. A client sends it one request after the other over
gRPC: first alone, and then while the attack goes on. The goal: its p99 at most doubles, and the server keeps
within the memory that its pod has. With --tree the server comes from another checkout.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
import numpy as np

from benchmarks.attacks import ATTACKS, MIB
from benchmarks.pages import placed
from serval_serving.wire import messages, rpc
from serval_serving.wire.tensors import from_array
from support.ports import free_port
from unit.serving.engines.onnx_models import half_plus_two, write

ROOT: Final = Path(__file__).resolve().parent.parent
PAGE: Final = ROOT / "docs" / "measurements.md"
MARKS: Final = ("<!-- benchmarks hostile: begin -->", "<!-- benchmarks hostile: end -->")
START_SECONDS: Final = 60.0
PAUSE_SECONDS: Final = 0.01
LIMIT: Final = 10.0
MEMORY_MIB: Final = 1024
HEAD: Final = (
    "| attack | calm p50 ms | p99 ms | attacked p50 ms | p99 ms | p99 ratio | failed of | peak MiB |\n"
    "|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True, slots=True)
class Served:
    """A server that runs.

    Attributes
    ----------
    pid:
        Its process.
    grpc_port, http_port:
        Its ports.
    """

    pid: int
    grpc_port: int
    http_port: int

    def peak_mib(self) -> float:
        """Its largest resident memory so far; NaN if it has ended."""
        try:
            lines = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines()
            return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
        except (OSError, StopIteration):
            return float("nan")


@dataclass(frozen=True, slots=True)
class Client:
    """What a client that behaves well saw.

    Attributes
    ----------
    milliseconds:
        Times of its requests; those of failed ones too.
    failed:
        Requests without an answer.
    """

    milliseconds: Sequence[float]
    failed: int

    @property
    def p50(self) -> float:
        """The median."""
        return statistics.median(self.milliseconds)

    @property
    def p99(self) -> float:
        """The time that one of a hundred requests exceeds."""
        return sorted(self.milliseconds)[int(len(self.milliseconds) * 0.99)]


def main(arguments: Sequence[str] = ()) -> None:
    """Measure, print and perhaps write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks hostile", description=__doc__)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each attack, and of calm before it")
    parser.add_argument("--attack", action="append", choices=ATTACKS, help="only this one; may be repeated")
    parser.add_argument("--tree", type=Path, default=ROOT, help="checkout that the server comes from")
    parser.add_argument("--label", default="", help="what the page calls this run")
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    told = parser.parse_args(arguments)
    lines = [HEAD]
    print(HEAD, flush=True)
    for name in told.attack or ATTACKS:
        lines.append(measured(name, told.seconds, told.tree))
        print(lines[-1], flush=True)
    if told.write:
        marks = (MARKS[0].replace(":", f" {told.label}:"), MARKS[1].replace(":", f" {told.label}:"))
        PAGE.write_text(placed(PAGE.read_text(), "\n".join(lines), marks if told.label else MARKS))


def measured(name: str, seconds: float, tree: Path) -> str:
    """Run one attack and return its row."""
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder), tree) as served:
        asked(served, 1.0)
        calm = asked(served, seconds)
        with attacking(name, served, seconds * 2):
            attacked = asked(served, seconds)
        peak = served.peak_mib()
    return (
        f"| {name} | {calm.p50:.1f} | {calm.p99:.1f} | {attacked.p50:.1f} | {attacked.p99:.1f} "
        f"| {attacked.p99 / calm.p99:.1f} | {attacked.failed} of {len(attacked.milliseconds)} | {peak:.0f} |"
    )


@contextmanager
def serving(folder: Path, tree: Path) -> Iterator[Served]:
    """Run a server of a small model."""
    write(folder / "m", 1, half_plus_two())
    ports = free_port(), free_port()
    command = [
        sys.executable,
        "-m",
        "serval_serving.server",
        f"--port={ports[0]}",
        f"--rest_api_port={ports[1]}",
        "--model_name=m",
        f"--model_base_path={folder / 'm'}",
        f"--memory_limit_bytes={MEMORY_MIB * MIB}",
        # As the operator sets it for this memory.
        f"--grpc_max_message_bytes={MEMORY_MIB * MIB // 32}",
    ]
    path = os.pathsep.join(str(tree / part) for part in ("serving", "contract"))
    process = subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        with grpc.insecure_channel(f"127.0.0.1:{ports[0]}") as channel:
            grpc.channel_ready_future(channel).result(START_SECONDS)
        yield Served(process.pid, *ports)
    finally:
        process.kill()
        process.wait(START_SECONDS)


@contextmanager
def attacking(name: str, served: Served, seconds: float) -> Iterator[None]:
    """Run an attack beside."""
    told = [name, str(served.grpc_port), str(served.http_port), str(seconds)]
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.attacks", *told], cwd=ROOT, stdout=subprocess.PIPE
    )
    try:
        if process.stdout is None or not process.stdout.readline():
            raise SystemExit(f"the attack {name} did not begin")
        yield
    finally:
        process.kill()
        process.wait(START_SECONDS)


def asked(served: Served, seconds: float) -> Client:
    """Send one request after the other for some time."""
    request = messages.PredictRequest(model_spec=messages.ModelSpec(name="m"))
    request.inputs["x"].CopyFrom(from_array(np.ones(1, np.float32)))
    body = request.SerializeToString()
    times: list[float] = []
    failed = 0
    end = time.monotonic() + seconds
    with grpc.insecure_channel(f"127.0.0.1:{served.grpc_port}") as channel:
        call = channel.unary_unary(rpc.PREDICT.path)
        while time.monotonic() < end:
            began = time.monotonic()
            try:
                call(body, timeout=LIMIT, wait_for_ready=True)
            except grpc.RpcError:
                failed += 1
            times.append((time.monotonic() - began) * 1000)
            time.sleep(PAUSE_SECONDS)
    return Client(times, failed)
