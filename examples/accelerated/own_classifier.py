"""Train a classifier of your own on the features of a featurizer: transfer learning on handwritten digits.

The featurizer is a SavedModel of `serval accel build` (or of efficientnet_lite0.py), or the artifact that
`serval accel convert` made of it. On an artifact the classifier learns from the features that the device
computes, which is better for the device than a classifier that learned from the float network.

    serval accel build --featurizer ResNet50 --weights my.keras --out /tmp/resnet50
    python examples/accelerated/own_classifier.py --featurizer /tmp/resnet50 --out /tmp/own.npz
    serval accel build --featurizer ResNet50 --weights my.keras --classifier /tmp/own.npz --out /tmp/digits

With ``--attach DIR`` the classifier takes its place in a copy of the artifact, without another conversion.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from serval_serving.accel.classifiers import dense_classifier
from serval_serving.accel.transfer import attach_classifier, open_featurizer

SIDE = 256
MARGIN = 32
"""Black pixels around a digit: the network sees only the centre of an image."""
WHITE = 16.0
"""Brightest value in the data."""


def main() -> int:
    """Compute features, train, judge on the held-out images. Returns 1 if the result is worse than asked."""
    options = _options()
    data = load_digits()
    train, test, train_y, test_y = train_test_split(
        data.images,
        data.target,
        train_size=options.train,
        test_size=options.test,
        random_state=options.seed,
        stratify=data.target,
    )
    with open_featurizer(options.featurizer) as featurizer:
        kind = "quantised" if featurizer.quantised else "float"
        print(f"computing {kind} features of {len(train) + len(test)} images", flush=True)
        train_x, test_x = (featurizer.features([encoded(one) for one in part]) for part in (train, test))
    # Features of different networks have different sizes; the scale goes into the kernel afterwards.
    scale = float(train_x.std()) or 1.0
    model = LogisticRegression(C=10, max_iter=3000).fit(train_x / scale, train_y)
    classifier = dense_classifier(model.coef_.T / scale, model.intercept_)
    accuracy = float((classifier(test_x).argmax(axis=1) == test_y).mean())
    print(f"{len(train)} images to learn from; of {len(test)} held out {accuracy:.1%} are right", flush=True)
    classifier.save(options.out)
    print(f"wrote {options.out}", flush=True)
    if options.attach is not None:
        attach_classifier(options.featurizer, classifier, options.attach)
        print(f"wrote {options.attach}: the artifact with this classifier", flush=True)
    return 0 if accuracy >= options.min_accuracy else 1


def encoded(image: NDArray[Any]) -> bytes:
    """Return a grey 8x8 image as a PNG that is large enough for the network."""
    digit = Image.fromarray((image / WHITE * 255).round().astype(np.uint8))
    inner = SIDE - 2 * MARGIN
    canvas = Image.new("L", (SIDE, SIDE))
    canvas.paste(digit.resize((inner, inner), Image.Resampling.BICUBIC), (MARGIN, MARGIN))
    file = io.BytesIO()
    canvas.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a classifier of digits on a featurizer.")
    parser.add_argument("--featurizer", type=Path, required=True, help="a SavedModel or an artifact")
    parser.add_argument("--out", type=Path, required=True, help="file of the classifier, .npz")
    parser.add_argument("--attach", type=Path, help="folder for a copy of the artifact with this classifier")
    parser.add_argument("--train", type=int, default=600, help="images to learn from (default: 600)")
    parser.add_argument("--test", type=int, default=300, help="images held out (default: 300)")
    parser.add_argument("--seed", type=int, default=7, help="of the split (default: 7)")
    parser.add_argument("--min-accuracy", type=float, default=0.0, help="fail below this (default: 0)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
