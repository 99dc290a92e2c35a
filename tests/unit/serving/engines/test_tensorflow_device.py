"""What a TensorFlow model ran on, in a process of its own: importing TensorFlow takes seconds.

There is no GPU here. A second logical CPU stands for one: `CPU:1`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

SECONDS = 120
PROGRAM = """
import json, sys
from pathlib import Path
import numpy as np
import tensorflow as tf
from serval_serving.engines.tensorflow import SessionOptions, TensorFlowEngine
from serval_serving.wire.status import StatusError

v1 = tf.compat.v1

class FakeGpuEngine(TensorFlowEngine):
    # An engine that takes the second logical CPU for an accelerator.
    def _accelerator(self):
        return "CPU:1"

    def _config(self):
        config = super()._config()
        config.device_count["CPU"] = 2
        return config

def export(name, device):
    folder = str(Path(sys.argv[1], name))
    with v1.Graph().as_default(), v1.Session(config=v1.ConfigProto(device_count={"CPU": 2})) as session:
        x = v1.placeholder(tf.float32, [None, 2], name="x")
        with tf.device("CPU:1"):
            weights = tf.constant([[1.0, 2.0], [3.0, 4.0]])
        with tf.device(device):
            product = tf.matmul(x, weights)
        plus = tf.identity(x) + 1.0
        method = "tensorflow/serving/predict"
        info = v1.saved_model.build_tensor_info
        signatures = {
            key: v1.saved_model.build_signature_def({"x": info(x)}, {"y": info(y)}, method)
            for key, y in (("product", product), ("plus", plus))
        }
        builder = v1.saved_model.Builder(folder)
        builder.add_meta_graph_and_variables(session, ["serve"], signatures, clear_devices=False)
        builder.save()
    return Path(folder)

ones = np.ones((1, 2), np.float32)

def devices(model, *signatures):
    found = [model.device]
    for signature in signatures:
        assert model.run(signature, {"x": ones}, ["y"], 30.0)[0].shape == (1, 2)
        found.append(model.device)
    return found

placed, moving = export("placed", "CPU:1"), export("moving", "CPU:0")
engine = FakeGpuEngine(SessionOptions(intra_op_threads=1, inter_op_threads=1))
found = {
    "computes there": devices(engine.load(placed), "product", "plus"),
    "only moves there": devices(engine.load(moving), "product", "plus", "product"),
    "by another signature": devices(engine.load(placed), "plus", "plus", "product", "plus"),
}
failing = engine.load(placed)
try:
    failing.run("product", {"x": np.ones((1, 3), np.float32)}, ["y"], 30.0)
except StatusError as error:
    found["a failed run"] = [failing.device, *devices(failing, "product")]
traces = []
counted = engine.load(placed)
read = counted._read_trace
counted._read_trace = lambda *args: (traces.append(args[0]), read(*args))
devices(counted, "plus", "plus", "product", "product", "plus")
found["traces"] = traces
plain = TensorFlowEngine(SessionOptions(intra_op_threads=1, inter_op_threads=1)).load(moving)
found["no accelerator"] = devices(plain)
print(json.dumps(found))
"""


def test_what_ran_decides_and_not_what_is_there(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stderr
    fake = "CPU:1"
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "computes there": ["", fake, fake],
        "only moves there": ["", "CPU", "CPU", "CPU"],
        "by another signature": ["", "CPU", "CPU", fake, fake],
        "a failed run": ["", "", fake],
        "traces": ["plus", "product"],
        "no accelerator": ["CPU"],
    }
