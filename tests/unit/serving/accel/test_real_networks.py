"""Networks of the catalogue, built by the command: the smallest in every run, all of them in whole runs."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serval_serving.accel.build_record import read_build_record
from serval_serving.accel.catalogue import NETWORKS, ssd
from serval_serving.cli import main
from support import whole
from unit.serving.accel.photo_files import encoded, kinds, photo

SMALLEST = "DenseNet121"
MIB = 1 << 20
MEMORY = {"ResNet50": 1300, "ResNet152": 1800, "DenseNet121": 1200, "VGG16": 3000, "SSDVGG": 1200}
"""MiB that a build may take at most; measured were 963, 1351, 850, 2468 and 833."""
PROGRAM = """
import sys, numpy as np, tensorflow as tf
model, photos, out = sys.argv[1:]
files = [bytes(one) for one in np.load(photos, allow_pickle=False)["files"]]
with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    graph = tf.compat.v1.saved_model.loader.load(session, ["serve"], model)
    signature = graph.signature_def["serving_default"]
    names = {alias: one.name for alias, one in signature.outputs.items()}
    found = session.run(names, {signature.inputs["images"].name: files})
np.savez(out, **found)
shapes = tf.train.load_checkpoint(f"{model}/variables/variables").get_variable_to_shape_map()
print(sum(int(np.prod(shape)) for shape in shapes.values()))
"""

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed"
)


@pytest.mark.timeout(900)
def test_networks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], sampled: Callable[[int, int, str], None]
) -> None:
    names = list(NETWORKS) if whole.whole() else [SMALLEST]
    sampled(len(names), len(NETWORKS), "networks")
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "0.jpg").write_bytes(encoded(photo(), "JPEG"))
    (photos / "1.png").write_bytes(kinds()["png"])
    for name in names:
        check(name, photos, tmp_path / name, capsys)


def check(name: str, photos: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["accel", "build", "--featurizer", name, "--weights", "random", "--json"]
    assert main([*arguments, "--photos", str(photos), "--out", str(out)]) == 0
    said = capsys.readouterr()
    result = json.loads(said.out)
    assert (result["network"], result["weights"]) == (name, "Random")
    assert result["peak_bytes"] < MEMORY[name] * MIB
    assert result["bytes"] >= 4 * NETWORKS[name].parameters
    assert [line.split(":")[0] for line in said.err.splitlines()] == [f"{i} of 5 steps" for i in range(1, 6)]
    assert (out / "saved_model.pb").stat().st_size < 10_000_000, "weights are in the graph"
    record = read_build_record(out)
    assert record is not None
    assert record.preprocessing == NETWORKS[name].preprocessing["azure"]
    answers(name, [path.read_bytes() for path in sorted(photos.iterdir())], out)


def answers(name: str, files: list[bytes], out: Path) -> None:
    network = NETWORKS[name]
    length = max(map(len, files))
    rows = np.array([np.frombuffer(one.ljust(length, b"\0"), np.uint8) for one in files])
    np.savez(out.with_suffix(".photos.npz"), files=rows)
    command = [sys.executable, "-c", PROGRAM, str(out), f"{out}.photos.npz", f"{out}.answers.npz"]
    done = subprocess.run(command, check=True, timeout=200, capture_output=True, text=True)
    assert int(done.stdout) == network.parameters
    with np.load(f"{out}.answers.npz") as arrays:
        found = dict(arrays)
    assert set(found) == set(network.outputs)
    assert all(np.isfinite(one).all() and len(one) == len(files) for one in found.values())
    if network.classifier is None:
        assert len(ssd.detections(found)) == len(files)
        return
    scores: Any = found["output_alias"]
    assert scores.shape == (len(files), network.classifier.classes)
    assert np.abs(scores[0] - scores[1]).max() > 1e-6
    if network.classifier.activation == "softmax":
        np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-4)
