"""Writes a SavedModel with a signature for each kind of kernel that looks at ranks, and a frozen one.

Run as a program: it imports TensorFlow.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

IMAGES = [None, 8, 8, 3]
ROWS = [None, 6]
STEPS = [None, 5, 4]
TENSOR_NAME = "x"


class Kernels(tf.Module):
    """One input `x` and one output `y` in each signature."""

    def __init__(self) -> None:
        super().__init__()
        ones = tf.ones
        self.filters = tf.Variable(ones([3, 3, 3, 4]))
        self.depth = tf.Variable(ones([3, 3, 3, 2]))
        self.point = tf.Variable(ones([1, 1, 6, 5]))
        self.transposed = tf.Variable(ones([3, 3, 5, 3]))
        self.cube = tf.Variable(ones([2, 2, 2, 3, 4]))
        self.line = tf.Variable(ones([3, 4, 5]))
        self.matrix = tf.Variable(ones([6, 4]))
        self.bias = tf.Variable(ones([4]))
        self.scale = tf.Variable(ones([3]))
        self.table = tf.Variable(ones([10, 4]))
        self.gates = tf.Variable(ones([8, 16]))

    def kinds(self) -> dict[str, tuple[Callable[[Any], Any], list[int | None] | None, Any]]:
        """By name: the function, the shape that the signature declares, and the type."""
        f = tf.float32
        return {
            "conv2d": (lambda x: tf.nn.conv2d(x, self.filters, 1, "SAME"), IMAGES, f),
            "conv2d_open": (lambda x: tf.nn.conv2d(x, self.filters, 1, "VALID"), None, f),
            "separable": (
                lambda x: tf.nn.separable_conv2d(x, self.depth, self.point, [1, 1, 1, 1], "SAME"),
                IMAGES,
                f,
            ),
            "transposed": (self._transposed, IMAGES, f),
            "conv3d": (lambda x: tf.nn.conv3d(x, self.cube, [1] * 5, "SAME"), [None, 4, 4, 4, 3], f),
            "conv1d": (lambda x: tf.nn.conv1d(x, self.line, 1, "SAME"), STEPS, f),
            "pools": (
                lambda x: tf.nn.avg_pool2d(tf.nn.max_pool2d(x, 2, 2, "VALID"), 2, 2, "VALID"),
                IMAGES,
                f,
            ),
            "residual": (self._residual, IMAGES, f),
            "normalized": (
                lambda x: tf.compat.v1.nn.fused_batch_norm(
                    x, self.scale, self.scale, self.scale, self.scale, is_training=False
                )[0],
                IMAGES,
                f,
            ),
            "dense": (lambda x: tf.nn.relu(tf.nn.bias_add(tf.matmul(x, self.matrix), self.bias)), ROWS, f),
            "softmax": (tf.nn.softmax, ROWS, f),
            "top": (lambda x: tf.math.top_k(x, 3).values, ROWS, f),
            "flat": (lambda x: tf.reshape(x, [-1, 12]), [None, 3, 4], f),
            "transpose": (lambda x: tf.transpose(x, [0, 2, 1]), STEPS, f),
            "concat": (lambda x: tf.concat([x, tf.zeros([2, 6])], 0), ROWS, f),
            "slice": (lambda x: x[:, 1:3, ::-1], STEPS, f),
            "reduced": (lambda x: tf.reduce_mean(x, [1, 2]), IMAGES, f),
            "einsum": (lambda x: tf.einsum("btd,bsd->bts", x, x), STEPS, f),
            "resized": (lambda x: tf.image.resize(x, [4, 4]), IMAGES, f),
            "blocks": (lambda x: tf.nn.space_to_depth(x, 2), IMAGES, f),
            "lrn": (tf.nn.local_response_normalization, IMAGES, f),
            "embedded": (lambda x: tf.nn.embedding_lookup(self.table, x), [None, 5], tf.int32),
            "one_hot": (lambda x: tf.one_hot(x, 4), [None], tf.int32),
            "segments": (lambda x: tf.math.segment_sum(tf.ones_like(x), x), [None], tf.int32),
            "unstacked": (lambda x: tf.add_n(tf.unstack(x, axis=1)), STEPS, f),
            "recurrent": (self._recurrent, STEPS, f),
            "mapped": (lambda x: tf.map_fn(self._one, x), IMAGES, f),
            "lengths": (tf.strings.length, [None], tf.string),
            "parsed": (self._parsed, [None], tf.string),
            "branched": (self._branched, ROWS, f),
            "spectrum": (lambda x: tf.abs(tf.signal.rfft(x)), ROWS, f),
            "inverse": (tf.linalg.inv, [None, 3, 3], f),
        }

    def _transposed(self, x: Any) -> Any:
        shape = tf.stack([tf.shape(x)[0], 16, 16, 5])
        return tf.nn.conv2d_transpose(x, self.transposed, shape, 2, "SAME")

    def _residual(self, x: Any) -> Any:
        """Two convolutions, a sum and a pool, as the blocks of ResNet."""
        first = tf.nn.relu(tf.nn.conv2d(x, self.filters, 1, "SAME"))
        return tf.reduce_max(first + tf.nn.conv2d(x, self.filters, 1, "SAME"), [1, 2])

    def _recurrent(self, x: Any) -> Any:
        """A loop over time with a matrix product in its body."""
        state = tf.zeros([tf.shape(x)[0], 4])

        def step(index: Any, state: Any) -> Any:
            gates = tf.matmul(tf.concat([x[:, index], state], 1), self.gates)
            return index + 1, tf.tanh(gates[:, :4])

        return tf.while_loop(lambda index, _: index < tf.shape(x)[1], step, (0, state))[1]

    def _one(self, image: Any) -> Any:
        """An image, in the body of a loop over images."""
        return tf.nn.conv2d(image[tf.newaxis], self.filters, 1, "SAME")[0, :, :, :3]

    def _parsed(self, x: Any) -> Any:
        return tf.io.parse_example(x, {"x": tf.io.FixedLenFeature([1], tf.float32, [1.0])})["x"]

    def _branched(self, x: Any) -> Any:
        return tf.cond(tf.size(x) > 12, lambda: tf.matmul(x, self.matrix), lambda: tf.matmul(-x, self.matrix))

    def signatures(self) -> dict[str, Any]:
        made = {}
        for name, (function, shape, dtype) in self.kinds().items():
            spec = tf.TensorSpec(shape, dtype, name=TENSOR_NAME)
            wrapped = tf.function(lambda x, function=function: {"y": function(x)}, [spec])
            made[name] = wrapped.get_concrete_function()
        return made


def frozen(path: Path) -> None:
    """A graph of TensorFlow 1 with its weights as constants, and a signature that feeds amid the graph."""
    tf1 = tf.compat.v1
    with tf.Graph().as_default(), tf1.Session() as session:
        files = tf1.placeholder(tf.string, [None], name="files")
        pixels = tf1.map_fn(lambda file: tf1.decode_raw(file, tf.uint8), files, dtype=tf.uint8)
        images = tf.reshape(tf.cast(pixels, tf.float32), [-1, 8, 8, 3], name="images")
        weights = tf.constant(np.linspace(0, 1, 3 * 3 * 3 * 64, dtype=np.float32).reshape(3, 3, 3, 64))
        y = tf.reduce_sum(tf.nn.conv2d(images, weights, 1, "SAME"), [1, 2, 3], name="y")
        builder = tf1.saved_model.builder.SavedModelBuilder(str(path))
        made = {
            "serving_default": tf1.saved_model.predict_signature_def({"x": images}, {"y": y}),
            "files": tf1.saved_model.predict_signature_def({"x": files}, {"y": y}),
            "echo": tf1.saved_model.predict_signature_def({"x": images}, {"y": images}),
        }
        builder.add_meta_graph_and_variables(session, ["serve"], made)
        builder.save()


def main() -> None:
    base = Path(sys.argv[1])
    kernels = Kernels()
    tf.saved_model.save(kernels, str(base / "kernels" / "1"), signatures=kernels.signatures())
    frozen(base / "frozen" / "1")


if __name__ == "__main__":
    main()
