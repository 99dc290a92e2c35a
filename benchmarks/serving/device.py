"""ResNet-50 through the model server on the machine's accelerator, at several batch sizes.

    python benchmarks/serving/device.py --framework ONNX [--batch 1 --batch 8 --batch 64] [--requests 50]

The server is started with a ResNet-50 of random weights in the given framework. It answers predict requests
over gRPC from the same machine, one at a time. Each batch size is warmed up first. The last line says what
the model ran on, as the server reports it. Unless that is an accelerator, the exit code is 1: the figures of
a CPU must not be taken for those of a GPU. `--cpu` allows it, to try this script without an accelerator.

docs/measurements.md has the commands that make an environment with the pinned packages for GPUs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import urllib3

sys.path.insert(0, str(Path(__file__).parent))

from models import CLASSES, STAGES, resnet50
from overhead import OPTIONS, free_port

from serval_contract.metrics import ACCELERATOR_GAUGE, DEVICE_LABEL, METRICS_PATH
from serval_serving.wire import messages, rpc
from serval_serving.wire.tensors import from_array, to_array

START_SECONDS = 300
CALL_SECONDS = 120
WARM_UP = 5
SIZE = 224


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--framework", required=True, choices=("TensorFlow", "ONNX"))
    parser.add_argument("--batch", type=int, action="append", help="images per request; may be repeated")
    parser.add_argument("--requests", type=int, default=50, help="per batch size")
    parser.add_argument("--cpu", action="store_true", help="do not fail where the model ran on the CPU")
    parser.add_argument("--export", type=Path, help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.export:
        tensorflow_resnet50(told.export)
        return
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder, "m")
        write_model(told.framework, base / "1")
        devices = measure(told.framework, base, told.batch or [1, 8, 64], told.requests)
    print(f"{told.framework} ran on: {', '.join(sorted(devices)) or 'unknown'}")
    if not told.cpu and not (devices and all(devices.values())):
        raise SystemExit("the model did not run on an accelerator")


def write_model(framework: str, folder: Path) -> None:
    """Write the model; TensorFlow's in a process of its own, which must hold no GPU memory afterwards."""
    folder.mkdir(parents=True)
    if framework == "ONNX":
        resnet50(folder / "model.onnx")
        return
    command = [sys.executable, __file__, "--framework", framework, "--export", str(folder)]
    subprocess.run(command, check=True, timeout=START_SECONDS, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})


def measure(framework: str, base: Path, batches: list[int], requests: int) -> dict[str, bool]:
    """Print a line per batch size; return the devices that the server reports, as `reported` does."""
    port, rest = free_port(), free_port()
    flags = [f"--port={port}", f"--rest_api_port={rest}", "--model_name=m", f"--model_base_path={base}"]
    server = subprocess.Popen([sys.executable, "-m", "serval_serving.server", *flags])
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel:
            predict = channel.unary_unary(rpc.PREDICT.path)
            wait(server, predict, request(framework, 1))
            print("| framework | batch | p50 ms | p99 ms | images/s |\n|---|---|---|---|---|", flush=True)
            for batch in batches:
                seconds = timed(predict, request(framework, batch), batch, requests)
                p50, p99 = statistics.median(seconds), seconds[int(len(seconds) * 0.99)]
                rate = batch * len(seconds) / sum(seconds)
                print(
                    f"| {framework} | {batch} | {p50 * 1000:.2f} | {p99 * 1000:.2f} | {rate:.0f} |",
                    flush=True,
                )
        page = urllib3.request("GET", f"http://127.0.0.1:{rest}{METRICS_PATH}", timeout=30, retries=False)
        return reported(page.data.decode())
    finally:
        server.terminate()
        server.wait(START_SECONDS)


def request(framework: str, batch: int) -> bytes:
    """Write a request of random images, in the layout of the framework's model."""
    shape = (batch, SIZE, SIZE, 3) if framework == "TensorFlow" else (batch, 3, SIZE, SIZE)
    asked = messages.PredictRequest(model_spec=messages.ModelSpec(name="m"))
    images = np.random.default_rng(batch).random(shape, dtype=np.float32)
    asked.inputs["x"].CopyFrom(from_array(images, typed=False))
    return bytes(asked.SerializeToString())


def wait(server: subprocess.Popen[bytes], predict: Callable[..., bytes], body: bytes) -> None:
    """Wait until the model answers."""
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            predict(body, timeout=CALL_SECONDS)
        except grpc.RpcError as error:
            if time.monotonic() > end or server.poll() is not None:
                raise SystemExit(f"the server does not answer: {error}") from None
            time.sleep(0.5)
        else:
            return


def timed(predict: Callable[..., bytes], body: bytes, batch: int, requests: int) -> list[float]:
    """Send requests one at a time; the answer is their seconds, in ascending order."""
    for _ in range(WARM_UP):
        reply = messages.PredictResponse.FromString(predict(body, timeout=CALL_SECONDS))
    scores = to_array(reply.outputs["y"])
    assert scores.shape == (batch, CLASSES)
    assert np.allclose(scores.sum(axis=1), 1, atol=1e-3)
    seconds = []
    for _ in range(requests):
        started = time.perf_counter()
        predict(body, timeout=CALL_SECONDS)
        seconds.append(time.perf_counter() - started)
    return sorted(seconds)


def reported(page: str) -> dict[str, bool]:
    """Devices in a page of metrics, and whether each is an accelerator."""
    lines = [line for line in page.splitlines() if line.startswith(f"{ACCELERATOR_GAUGE}{{")]
    return {line.split(f'{DEVICE_LABEL}="')[1].split('"')[0]: line.endswith(" 1") for line in lines}


def tensorflow_resnet50(folder: Path) -> None:
    """Write the same network for TensorFlow, whose images have their channels last."""
    import tensorflow as tf  # noqa: PLC0415  only this process needs it

    v1 = tf.compat.v1

    def weight(*shape: int) -> Any:
        scale = np.sqrt(2 / max(1, int(np.prod(shape[:-1]))))
        return v1.get_variable(
            f"w{len(v1.global_variables())}", shape, tf.float32, tf.random_normal_initializer(0, scale)
        )

    def convolution(x: Any, outside: int, size: int, stride: int, *, relu: bool = True) -> Any:
        y = tf.nn.conv2d(x, weight(size, size, x.shape[3], outside), stride, "SAME") + weight(outside)
        return tf.nn.relu(y) if relu else y

    with v1.Graph().as_default(), v1.Session() as session:
        images = v1.placeholder(tf.float32, [None, SIZE, SIZE, 3], name="x")
        x = tf.nn.max_pool2d(convolution(images, 64, 7, 2), 3, 2, "SAME")
        for stage, (blocks, inner) in enumerate(STAGES):
            for block in range(blocks):
                stride = 2 if stage and not block else 1
                y = convolution(convolution(x, inner, 1, 1), inner, 3, stride)
                y = convolution(y, inner * 4, 1, 1, relu=False)
                x = x if block else convolution(x, inner * 4, 1, stride, relu=False)
                x = tf.nn.relu(x + y)
        pooled = tf.reduce_mean(x, [1, 2])
        scores = tf.nn.softmax(pooled @ weight(pooled.shape[1], CLASSES) + weight(CLASSES))
        session.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(session, str(folder / "saved"), {"x": images}, {"y": scores})
    for path in (folder / "saved").iterdir():
        path.rename(folder / path.name)
    (folder / "saved").rmdir()


if __name__ == "__main__":
    main()
