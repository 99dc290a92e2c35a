"""The program in examples/digits, run as a user runs it. TensorFlow stays in processes of its own."""

from __future__ import annotations

import csv
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from serval_serving.models.savedmodel import TensorInfo
from serval_serving.models.savedmodel_files import read_saved_model

PROGRAM = Path(__file__).parents[3] / "examples" / "digits" / "train.py"

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed"
)

SESSION = """
import csv, json, sys
import tensorflow as tf
model, images = sys.argv[1:]
rows = list(csv.DictReader(open(f"{images}/labels.csv")))
files = [open(f"{images}/{row['file']}", "rb").read() for row in rows]
with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    graph = tf.compat.v1.saved_model.loader.load(session, ["serve"], model)
    signature = graph.signature_def["serving_default"]
    jpegs = session.run([tf.io.encode_jpeg(tf.io.decode_png(file, channels=3)) for file in files])
    right = []
    for batch in (files, jpegs):
        names = [signature.outputs[name].name for name in ("classes", "probabilities")]
        classes, scores = session.run(names, {signature.inputs["images"].name: batch})
        assert (scores.argmax(axis=1) == classes).all()
        right.append(sum(int(row["label"]) == found for row, found in zip(rows, classes)) / len(rows))
print(json.dumps(right))
"""


def _run(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    _run(str(PROGRAM), "--out", f"{folder}/model", "--version", "3", "--test-images", f"{folder}/images")
    return folder


def test_accuracy_and_size(trained: Path) -> None:
    metrics = json.loads((trained / "model" / "metrics.json").read_text())
    assert metrics["accuracy"] >= 0.95
    assert metrics["bytes"] < 700_000
    with (trained / "images" / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == metrics["held_out"] == len(list((trained / "images").glob("*.png")))


def test_signature(trained: Path) -> None:
    signature = read_saved_model(trained / "model" / "3").signatures["serving_default"]
    (images,) = signature.inputs.items()
    assert images == ("images", TensorInfo("serving_default_images:0", "DT_STRING", (-1,)))
    assert [(name, info.dtype, info.shape) for name, info in signature.outputs.items()] == [
        ("classes", "DT_INT64", (-1,)),
        ("probabilities", "DT_FLOAT", (-1, 10)),
    ]


def test_session_loader_reads_it_and_scores_png_and_jpeg(trained: Path) -> None:
    right = json.loads(_run("-c", SESSION, f"{trained}/model/3", f"{trained}/images").splitlines()[-1])
    assert min(right) >= 0.95
