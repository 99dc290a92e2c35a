"""What the model server itself costs: an identity model behind it, beside a bare gRPC echo in Python.

    python benchmarks/serving/overhead.py [--requests 300] [--rounds 5]

Three servers, each a process of its own, get the same request (602,112 bytes of float32, as an image of
224 x 224 x 3) one after the other, in rounds that take turns so that noise hits all alike:

- echo: `grpc.server` with a handler that returns the bytes that came, no message parsed;
- messages: the same, but request and reply are messages, and the tensor goes through our codec;
- serval: the model server with TensorFlow and a model that returns its input, in a typed reply.

Counted: CPU milliseconds of the server's process per request (from /proc), and wall milliseconds.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from serval_serving.wire import messages, rpc
from serval_serving.wire.tensors import from_array, to_array, write_array

SHAPE = (1, 224, 224, 3)
START_SECONDS = 60
LIMIT = 30
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Subject:
    """One server and what was measured of it."""

    name: str
    process: subprocess.Popen[bytes]
    channel: grpc.Channel
    cpu_ms: list[float] = field(default_factory=list)
    wall_ms: list[float] = field(default_factory=list)


def make_model(base: Path) -> None:
    """Write the identity model. Runs in a process of its own: it imports TensorFlow."""
    import tensorflow as tf  # noqa: PLC0415  only this process needs it

    class Identity(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec([None, *SHAPE[1:]], tf.float32, name="x")])  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return {"y": tf.identity(x)}

    model = Identity()
    tf.saved_model.save(model, str(base / "1"), signatures=model.call)


def echo_server(port: int, *, parse: bool) -> None:
    """Serve Predict by returning what came."""

    def behavior(request: Any, _context: Any) -> Any:
        if not parse:
            return request
        response = messages.PredictResponse(model_spec=request.model_spec)
        write_array(response.outputs["y"], to_array(request.inputs["x"]))
        return response

    server = grpc.server(ThreadPoolExecutor(os.cpu_count()), options=OPTIONS)
    if parse:
        server.add_generic_rpc_handlers(rpc.handlers({rpc.PREDICT: behavior}))
    else:
        raw = {rpc.PREDICT.name: grpc.unary_unary_rpc_method_handler(behavior)}
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(rpc.PREDICT.service, raw)])
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    signal.sigwait({signal.SIGTERM})


def cpu_seconds(pid: int) -> float:
    """Read the CPU time that a process used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(name: str, command: Sequence[str], port: int) -> Subject:
    """Start a server and wait until it answers."""
    process = subprocess.Popen([sys.executable, *command], stderr=subprocess.DEVNULL)
    channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS)
    grpc.channel_ready_future(channel).result(START_SECONDS)
    return Subject(name, process, channel)


def measure(subject: Subject, body: bytes, requests: int) -> None:
    """Send requests one after the other."""
    call = subject.channel.unary_unary(rpc.PREDICT.path)
    before = cpu_seconds(subject.process.pid)
    for _ in range(requests):
        started = time.perf_counter()
        call(body, timeout=LIMIT)
        subject.wall_ms.append((time.perf_counter() - started) * 1000)
    subject.cpu_ms.append((cpu_seconds(subject.process.pid) - before) / requests * 1000)


def report(subjects: Sequence[Subject]) -> None:
    base = statistics.median(subjects[0].cpu_ms)
    print("| server | CPU-ms per request, median of rounds (least) | to echo | wall ms, median (least) |")
    print("|---|---|---|---|")
    for subject in subjects:
        cpu = statistics.median(subject.cpu_ms)
        wall = statistics.median(subject.wall_ms)
        print(
            f"| {subject.name} | {cpu:.2f} ({min(subject.cpu_ms):.2f}) | {cpu / base:.2f} "
            f"| {wall:.2f} ({min(subject.wall_ms):.2f}) |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=300, help="requests per round and server")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--make-model", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--echo", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--messages", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.make_model:
        make_model(arguments.make_model)
    elif arguments.echo or arguments.messages:
        # The signal must not end the process before `sigwait` sees it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        echo_server(arguments.echo or arguments.messages, parse=bool(arguments.messages))
    else:
        compare(arguments.requests, arguments.rounds)


def compare(requests: int, rounds: int) -> None:
    """Start the servers, measure them in turns, and print the table."""
    request = messages.PredictRequest(model_spec=messages.ModelSpec(name="identity"))
    image = np.random.default_rng(1).random(SHAPE, dtype=np.float32)
    request.inputs["x"].CopyFrom(from_array(image, typed=False))
    body = request.SerializeToString()
    ports = [free_port() for _ in range(3)]
    subjects: list[Subject] = []
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "identity"
        subprocess.run([sys.executable, __file__, "--make-model", str(base)], check=True, timeout=120)
        flags = [f"--port={ports[2]}", "--model_name=identity", f"--model_base_path={base}"]
        try:
            subjects.append(start("echo", [__file__, "--echo", str(ports[0])], ports[0]))
            subjects.append(start("messages", [__file__, "--messages", str(ports[1])], ports[1]))
            subjects.append(start("serval", ["-m", "serval_serving.server", *flags], ports[2]))
            for subject in subjects:
                measure(subject, body, 50)
                subject.cpu_ms.clear()
                subject.wall_ms.clear()
            for _ in range(rounds):
                for subject in subjects:
                    measure(subject, body, requests)
        finally:
            for subject in subjects:
                subject.process.terminate()
                subject.process.wait(LIMIT)
    print(f"{len(body)} bytes per request, {requests} requests x {rounds} rounds, {os.cpu_count()} CPUs")
    report(subjects)


if __name__ == "__main__":
    main()
