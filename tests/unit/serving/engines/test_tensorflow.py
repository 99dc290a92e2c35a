"""The engine for SavedModels, in a process of its own: importing TensorFlow takes seconds and much memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

SECONDS = 120
PROGRAM = """
import json, sys
import time
from pathlib import Path
from types import SimpleNamespace
import numpy as np
import serval_serving.engines.tensorflow as module
from serval_serving.engines.tensorflow import INLINE_SECONDS, SessionOptions, TensorFlowEngine

engine = TensorFlowEngine(SessionOptions(intra_op_threads=1, inter_op_threads=2))
straight = engine.load(Path(sys.argv[1]) / "pair" / "1")
looping = engine.load(Path(sys.argv[1]) / "zoo" / "0000007")
ones = np.ones(2, np.float32)

def last(model, signature, inputs, alias, runs):
    for _ in range(runs):
        result = model.run(signature, inputs, [alias], 30.0)[0]
    return result.tolist()

found = {"device": straight.device, "inline": [straight._may_be_inline, looping._may_be_inline]}
found["sum"] = last(straight, "serving_default", {"a": ones, "b": ones}, "sum", 50)
found["half"] = last(looping, "half_plus_two", {"x": ones}, "y", 50)
found["seconds"] = straight._seconds["serving_default"] <= INLINE_SECONDS
straight._note("serving_default", 3.0)
found["after a slow run"] = straight._seconds["serving_default"] <= INLINE_SECONDS
for _ in range(100):
    straight._note("serving_default", 0.0001)
found["after many quick ones"] = straight._seconds["serving_default"] <= INLINE_SECONDS
asked, noted = [], []
now = 0.0
def check(question, seconds):
    global now
    now += 1.0
    asked.append([list(one.shape) for one in question.feeds])
module.time = SimpleNamespace(**{**vars(time), "perf_counter": lambda: now})
looping._verdicts.check = check
looping._note = lambda signature, seconds: noted.append(seconds)
for signature, inputs, alias in (
    ("half_plus_two", {"x": np.ones(7, np.float32)}, "y"),
    ("half_plus_two", {"x": np.ones((2, 3), np.float32)}, "y"),
    ("echo_float", {"x": np.ones((2, 3), np.float32)}, "y"),
    ("add", {"a": np.ones(2, np.float32), "b": np.ones((), np.float32)}, "sum"),
):
    last(looping, signature, inputs, alias, 1)
found["asked"], found["noted"] = asked, noted
for model in (straight, looping):
    model.close()
print(json.dumps(found))
"""


def test_quick_graphs_run_in_the_calling_thread_and_shapes_that_fit_ask_for_no_verdict(models: Path) -> None:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(models)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "device": "CPU",
        "inline": [True, False],
        "sum": [2.0, 2.0],
        "half": [2.5, 2.5],
        "seconds": True,
        "after a slow run": False,
        "after many quick ones": True,
        # Not the shape that fits; the rank alone where the signature leaves it open; all inputs of a request.
        "asked": [[[2, 3]], [[None, None]], [[2], []]],
        # A verdict takes a second here, and is no part of a run.
        "noted": [0.0, 0.0, 0.0, 0.0],
    }
