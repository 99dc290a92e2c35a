"""The ONNX digits, trained as a user trains them and run as the server runs them."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from serval_serving.engines.onnx import OnnxEngine, OnnxOptions
from serval_serving.models.onnxmodel import read_onnx_signature
from serval_serving.models.savedmodel import TensorInfo

PROGRAM = Path(__file__).parents[3] / "examples" / "digits" / "export_onnx.py"
SECONDS = 200


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits-onnx")
    options = ("--out", f"{folder}/model", "--version", "3", "--test-images", f"{folder}/images")
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *options], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_signature(trained: Path) -> None:
    signature = read_onnx_signature(trained / "model" / "3").signatures["serving_default"]
    assert dict(signature.inputs) == {"images": TensorInfo("images", "DT_UINT8", (-1, 8, 8))}
    assert [(name, info.dtype, info.shape) for name, info in signature.outputs.items()] == [
        ("classes", "DT_INT64", (-1,)),
        ("probabilities", "DT_FLOAT", (-1, 10)),
    ]


def test_the_held_out_images_are_read_as_the_program_says(trained: Path) -> None:
    with (trained / "images" / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    files = [(trained / "images" / row["file"]).read_bytes() for row in rows]
    images = np.frombuffer(b"".join(files), dtype=np.uint8).reshape(-1, 8, 8)
    model = OnnxEngine(OnnxOptions(intra_op_threads=1)).load(trained / "model" / "3")
    classes, scores = model.run("serving_default", {"images": images}, ["classes", "probabilities"])
    assert (scores.argmax(axis=1) == classes).all()
    right = float(np.mean(classes == [int(row["label"]) for row in rows]))
    said = json.loads((trained / "model" / "metrics.json").read_text())
    assert said["held_out"] == len(rows)
    assert right == pytest.approx(said["accuracy"], abs=1 / len(rows))
    assert right >= 0.95


def test_a_model_that_is_too_bad_fails(tmp_path: Path) -> None:
    command = [sys.executable, str(PROGRAM), "--out", str(tmp_path), "--min-accuracy", "1.1"]
    done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
    assert done.returncode == 1, done.stderr
