"""Train a small network on handwritten digits with scikit-learn and export it as an ONNX model.

The data are scikit-learn's bundled digits: 1,797 grey images of 8x8 pixels, nothing is downloaded. There is
no operator that decodes PNG or JPEG in every runtime of ONNX, so the model takes the pixels themselves:

- input ``images``: DT_UINT8 [N, 8, 8], from 0 (black) to 255
- outputs ``classes``: DT_INT64 [N], and ``probabilities``: DT_FLOAT [N, 10]

    python examples/digits/export_onnx.py --out /tmp/digits --test-images /tmp/digits-test
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

SIDE = 8
CLASSES = 10
WHITE = 16.0
"""Brightest value in the data; images have 255 there."""
HELD_OUT = 0.25
HIDDEN = 128
OPSET = 17
IR_VERSION = 8


def main() -> int:
    """Train, judge on the held-out images, export. Returns 1 if the model is worse than asked for."""
    options = _options()
    pixels, labels = load_digits(return_X_y=True)
    images = (pixels / WHITE * 255).round().astype(np.uint8).reshape(-1, SIDE, SIDE)
    train_x, test_x, train_y, test_y = train_test_split(
        images, labels, test_size=HELD_OUT, random_state=options.seed, stratify=labels
    )
    network = MLPClassifier((HIDDEN,), max_iter=1000, random_state=options.seed)
    network.fit(train_x.reshape(-1, SIDE * SIDE) / 255, train_y)
    accuracy = float(network.score(test_x.reshape(-1, SIDE * SIDE) / 255, test_y))
    print(
        f"{len(train_x)} images to learn from; of {len(test_x)} held out {accuracy:.2%} are right", flush=True
    )

    path = options.out / str(options.version) / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save_model(build_model(network), str(path))
    print(f"wrote {path} ({path.stat().st_size / 1000:.0f} kB)", flush=True)
    metrics = {"accuracy": accuracy, "held_out": len(test_y), "trained_on": len(train_y)}
    (options.out / "metrics.json").write_text(json.dumps(metrics) + "\n", encoding="utf-8")
    if options.test_images is not None:
        write_test_images(options.test_images, test_x, test_y)
    return 0 if accuracy >= options.min_accuracy else 1


def build_model(network: Any) -> onnx.ModelProto:
    """Write a trained network of one hidden layer as an ONNX model, the scaling of pixels in front."""
    weights = {"scale": np.float32(1 / 255)}
    for index, (kernel, bias) in enumerate(zip(network.coefs_, network.intercepts_, strict=True)):
        weights |= {f"kernel{index}": kernel.astype(np.float32), f"bias{index}": bias.astype(np.float32)}
    node = helper.make_node
    nodes = [
        node("Cast", ["images"], ["grey"], to=TensorProto.FLOAT),
        node("Mul", ["grey", "scale"], ["scaled"]),
        node("Flatten", ["scaled"], ["pixels"]),
        node("Gemm", ["pixels", "kernel0", "bias0"], ["sums"]),
        node("Relu", ["sums"], ["hidden"]),
        node("Gemm", ["hidden", "kernel1", "bias1"], ["logits"]),
        node("Softmax", ["logits"], ["probabilities"], axis=1),
        node("ArgMax", ["logits"], ["classes"], axis=1, keepdims=0),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "digits",
        [value("images", TensorProto.UINT8, ["N", SIDE, SIDE])],
        [
            value("classes", TensorProto.INT64, ["N"]),
            value("probabilities", TensorProto.FLOAT, ["N", CLASSES]),
        ],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()],
    )
    # Runtimes of the last years know these versions.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    return model


def write_test_images(folder: Path, images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> None:
    """Write each image as its 64 bytes, and ``labels.csv`` with the columns ``file`` and ``label``."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["file", "label"])
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            name = f"digit-{index:03}.raw"
            (folder / name).write_bytes(image.tobytes())
            table.writerow([name, int(label)])
    print(f"wrote {len(images)} images and labels.csv to {folder}", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train the digits model and export it to ONNX.")
    parser.add_argument("--out", type=Path, required=True, help="base path; the model goes to OUT/VERSION")
    parser.add_argument("--version", type=int, default=1, help="number of the version (default: 1)")
    parser.add_argument("--test-images", type=Path, help="folder for the held-out images and labels.csv")
    parser.add_argument("--seed", type=int, default=7, help="of split and training (default: 7)")
    parser.add_argument("--min-accuracy", type=float, default=0.95, help="fail below this (default: 0.95)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
