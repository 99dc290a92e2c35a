"""Train a small CNN on handwritten digits and export it as a SavedModel that takes encoded images.

The data are scikit-learn's bundled digits: 1,797 grey images of 8x8 pixels, nothing is downloaded. The model
decodes PNG or JPEG bytes inside its graph, so a client sends a file as it is:

- input ``images``: DT_STRING [N], one encoded image each, of any size and colour
- outputs ``classes``: int64 [N], and ``probabilities``: float [N, 10]

    python examples/digits/train.py --out /tmp/digits --test-images /tmp/digits-test
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

# TensorFlow reads these once, at import: no start-up chatter, and the same sums on every run.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

SIDE = 8
CLASSES = 10
WHITE = 16.0
"""Brightest value in the data; images have 255 there."""
HELD_OUT = 0.25
EPOCHS = 20
BATCH = 64
PIXEL = 8
"""Side of the square that shows one pixel of the data in the PNGs written for tests."""


def main() -> int:
    """Train, judge on the held-out images, export. Returns 1 if the model is worse than asked for."""
    options = _options()
    started = time.monotonic()
    tf.keras.utils.set_random_seed(options.seed)
    pixels, labels = load_digits(return_X_y=True)
    images = pixels.reshape(-1, SIDE, SIDE, 1).astype(np.float32) / WHITE
    train_x, test_x, train_y, test_y = train_test_split(
        images, labels, test_size=HELD_OUT, random_state=options.seed, stratify=labels
    )
    _say(f"{len(train_x)} images to learn from, {len(test_x)} held out")
    network = build_network()
    network.compile(
        optimizer=tf.keras.optimizers.Adam(2e-3),
        loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    network.fit(train_x, train_y, batch_size=BATCH, epochs=EPOCHS, verbose=0, callbacks=[_Progress()])

    encoded = [encode(image) for image in test_x]
    exported = ImageClassifier(network)
    predicted = exported.serve(tf.constant(encoded))["classes"].numpy()
    accuracy = float((predicted == test_y).mean())
    _say(f"{accuracy:.2%} of the held-out images are right (through PNG and the exported graph)")

    folder = options.out / str(options.version)
    tf.saved_model.save(exported, str(folder), signatures={"serving_default": exported.serve})
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    _say(f"wrote {folder} ({size / 1000:.0f} kB) after {time.monotonic() - started:.1f} s")
    if options.test_images is not None:
        write_test_images(options.test_images, encoded, test_y)
        _say(f"wrote {len(encoded)} PNGs and labels.csv to {options.test_images}")
    metrics = {"accuracy": accuracy, "held_out": len(test_y), "trained_on": len(train_y), "bytes": size}
    (options.out / "metrics.json").write_text(json.dumps(metrics) + "\n", encoding="utf-8")
    if accuracy < options.min_accuracy:
        _say(f"that is less than the {options.min_accuracy:.0%} asked for")
        return 1
    return 0


def build_network() -> Any:
    """Return the untrained CNN: pixels from 0 to 1 in, logits out; about 38,000 weights."""
    layers = tf.keras.layers
    return tf.keras.Sequential(
        [
            layers.Input((SIDE, SIDE, 1)),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Dropout(0.25),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dropout(0.25),
            layers.Dense(CLASSES),
        ]
    )


class ImageClassifier(tf.Module):  # type: ignore[misc]
    """A network with the decoding of its images in front.

    Parameters
    ----------
    network:
        Maps float images [N, 8, 8, 1] from 0 to 1 to logits [N, 10].
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        # Plain variables, and the network only as a function of them: of a network held as an attribute
        # TensorFlow would also save the optimizer's state, and variables that its session loader does not
        # restore.
        self.weights = [tf.Variable(value) for value in network.trainable_variables]
        self.constants = [tf.Variable(value, trainable=False) for value in network.non_trainable_variables]
        self._call = network.stateless_call

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="images")])  # type: ignore[untyped-decorator]
    def serve(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Score encoded images. The outputs' names are sorted, so that `probabilities` is the second."""
        decoded = tf.map_fn(_decode, images, fn_output_signature=tf.TensorSpec([SIDE, SIDE, 1], tf.float32))
        logits, _ = self._call(self.weights, self.constants, decoded, training=False)
        probabilities = tf.nn.softmax(logits)
        return {
            "classes": tf.argmax(probabilities, axis=1, output_type=tf.int64),
            "probabilities": probabilities,
        }


def _decode(encoded: tf.Tensor) -> tf.Tensor:
    """Decode one PNG, JPEG, GIF or BMP to grey 8x8 pixels from 0 to 1."""
    image = tf.io.decode_image(encoded, channels=1, expand_animations=False)
    image.set_shape([None, None, 1])
    # The mean over an area undoes the enlargement of the test images exactly.
    return tf.image.resize(image, [SIDE, SIDE], method="area") / 255.0


def encode(image: np.ndarray[Any, Any]) -> bytes:
    """Return `image`, pixels from 0 to 1, as a PNG that is large enough to look at."""
    large = image.repeat(PIXEL, axis=0).repeat(PIXEL, axis=1)
    png: bytes = tf.io.encode_png((large * 255).round().astype(np.uint8)).numpy()
    return png


def write_test_images(folder: Path, encoded: list[bytes], labels: np.ndarray[Any, Any]) -> None:
    """Write the images, and ``labels.csv`` with the columns ``file`` and ``label``."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["file", "label"])
        for index, (png, label) in enumerate(zip(encoded, labels, strict=True)):
            name = f"digit-{index:03}.png"
            (folder / name).write_bytes(png)
            table.writerow([name, int(label)])


class _Progress(tf.keras.callbacks.Callback):  # type: ignore[misc]
    """Says every few epochs how far the training is."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if (epoch + 1) % 5 == 0:
            _say(f"epoch {epoch + 1}/{EPOCHS}, loss {(logs or {}).get('loss', float('nan')):.3f}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train and export the digits model.")
    parser.add_argument("--out", type=Path, required=True, help="base path; the model goes to OUT/VERSION")
    parser.add_argument("--version", type=int, default=1, help="number of the version (default: 1)")
    parser.add_argument("--test-images", type=Path, help="folder for the held-out images and labels.csv")
    parser.add_argument("--seed", type=int, default=7, help="of split and training (default: 7)")
    parser.add_argument("--min-accuracy", type=float, default=0.95, help="fail below this (default: 0.95)")
    return parser.parse_args()


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
