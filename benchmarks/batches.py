"""Rows per second for 64 clients of a model that takes 100 ms for a batch of any size, as a device may.

Each client sends one row after the other, so the batches have as many rows as the server lets gather. The
engine only waits: what is measured is the server.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import grpc
import numpy as np

from serval_serving.server.cpus import usable_cpus
from serval_serving.wire import messages, rpc
from serval_serving.wire.tensors import from_array
from support.ports import free_port
from unit.serving.server.fake_engine import write_version

SERVER: Final = Path(__file__).resolve().parent.parent / "tests/unit/serving/server/fake_server.py"
BATCH_SECONDS: Final = 0.1
LARGEST: Final = 64
START_SECONDS: Final = 60.0
LIMIT: Final = 30.0


def main(arguments: Sequence[str] = ()) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks batches", description=__doc__)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5.0)
    told = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_version(folder / "m", 1, run_seconds=BATCH_SECONDS)
        parameters = folder / "batching"
        parameters.write_text(f"max_batch_size {{ value: {LARGEST} }}")
        port = free_port()
        command = [sys.executable, str(SERVER), f"--port={port}", "--model_name=m", "--enable_batching"]
        command += [f"--model_base_path={folder / 'm'}", f"--batching_parameters_file={parameters}"]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            try:
                rows = _rows(port, told.clients, told.seconds)
            finally:
                process.kill()
    print(
        f"{told.clients} clients of one row, {BATCH_SECONDS * 1000:.0f} ms per batch of at most {LARGEST}, "
        f"{usable_cpus()} CPUs: {rows / told.seconds:.0f} rows/s",
        flush=True,
    )


def _rows(port: int, clients: int, seconds: float) -> int:
    """Count the rows that were answered."""
    request = messages.PredictRequest(model_spec=messages.ModelSpec(name="m"))
    request.inputs["x"].CopyFrom(from_array(np.ones(1, np.float32)))
    body = request.SerializeToString()
    counts = [0] * clients
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        grpc.channel_ready_future(channel).result(START_SECONDS)
        call = channel.unary_unary(rpc.PREDICT.path)
        call(body, timeout=LIMIT)
        end = time.monotonic() + seconds

        def send(index: int) -> None:
            while time.monotonic() < end:
                call(body, timeout=LIMIT)
                counts[index] += time.monotonic() < end

        threads = [threading.Thread(target=send, args=(index,)) for index in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(seconds + LIMIT)
    return sum(counts)
