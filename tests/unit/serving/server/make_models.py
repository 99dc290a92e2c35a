"""Writes the small SavedModels that the server's tests serve. Run as a program: it imports TensorFlow."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

TYPES = {
    "half": tf.float16,
    "bfloat16": tf.bfloat16,
    "float": tf.float32,
    "double": tf.float64,
    "int8": tf.int8,
    "int16": tf.int16,
    "int32": tf.int32,
    "int64": tf.int64,
    "uint8": tf.uint8,
    "uint16": tf.uint16,
    "uint32": tf.uint32,
    "uint64": tf.uint64,
    "bool": tf.bool,
    "string": tf.string,
    "complex64": tf.complex64,
}


def spec(shape: Any, dtype: Any, name: str) -> Any:
    return tf.TensorSpec(shape, dtype, name=name)


class Zoo(tf.Module):
    """One signature for each thing to be tried; the default one scores bytes as an image classifier does."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = tf.Variable(tf.ones([3, 3, 3, 2]))

    def signatures(self) -> dict[str, Any]:
        made = {
            "serving_default": tf.function(self.score, [spec([None], tf.string, "images")]),
            "half_plus_two": tf.function(self.half_plus_two, [spec([None], tf.float32, "x")]),
            "add": tf.function(self.add, [spec([None], tf.float32, "a"), spec([None], tf.float32, "b")]),
            "images": tf.function(self.convolve, [spec([None, 8, 8, 3], tf.float32, "images")]),
            "parse": tf.function(self.parse, [spec([None], tf.string, "text")]),
            "slow": tf.function(self.slow, [spec([], tf.int32, "steps")]),
            "two_batches": tf.function(self.two_batches, [spec([None], tf.float32, "x")]),
            "raw_bytes": tf.function(self.raw_bytes, [spec([None], tf.string, "text")]),
            "scalar": tf.function(self.scalar, [spec([], tf.float32, "x")]),
        }
        for name, dtype in TYPES.items():
            made[f"echo_{name}"] = tf.function(self.echo, [spec(None, dtype, "x")])
        return {name: function.get_concrete_function() for name, function in made.items()}

    def score(self, images: Any) -> Any:
        """Class: the length of the bytes. Probabilities: three numbers that depend on it."""
        size = tf.cast(tf.strings.length(images), tf.float32)
        return {"classes": tf.cast(size, tf.int64), "probabilities": tf.stack([size, size / 2, size / 4], 1)}

    def half_plus_two(self, x: Any) -> Any:
        return {"y": x * 0.5 + 2.0}

    def add(self, a: Any, b: Any) -> Any:
        return {"sum": a + b, "difference": a - b}

    def convolve(self, images: Any) -> Any:
        return {"y": tf.reduce_sum(tf.nn.conv2d(images, self.kernel, 1, "SAME"), [1, 2, 3])}

    def parse(self, text: Any) -> Any:
        return {"number": tf.strings.to_number(text, tf.float32)}

    def slow(self, steps: Any) -> Any:
        """Multiply a matrix so many times, which takes a while."""
        start = tf.eye(200)

        def more(step: Any, _matrix: Any) -> Any:
            return step < steps

        def once(step: Any, matrix: Any) -> Any:
            return step + 1, tf.matmul(matrix, start)

        return {"trace": tf.linalg.trace(tf.while_loop(more, once, (0, start))[1])}

    def two_batches(self, x: Any) -> Any:
        return {"a": x, "b": tf.concat([x, x], 0)}

    def raw_bytes(self, text: Any) -> Any:
        return {"copy_bytes": text, "text": text}

    def scalar(self, x: Any) -> Any:
        return {"y": x + 1.0}

    def echo(self, x: Any) -> Any:
        return {"y": tf.identity(x)}


class Pair(tf.Module):
    """Two inputs and one output in the default signature."""

    @tf.function(input_signature=[spec([None], tf.float32, "a"), spec([None], tf.float32, "b")])
    def add(self, a: Any, b: Any) -> Any:
        return {"sum": a + b}


def half_plus_three(path: Path) -> None:
    """A SavedModel of TensorFlow 1, of the kind that `tf.saved_model.load` has trouble with."""
    tf1 = tf.compat.v1
    with tf.Graph().as_default(), tf1.Session() as session:
        x = tf1.placeholder(tf.float32, [None], name="x")
        b = tf1.get_variable("b", initializer=3.0, use_resource=False)
        y = tf.add(x * 0.5, b, name="y")
        session.run(tf1.global_variables_initializer())
        builder = tf1.saved_model.builder.SavedModelBuilder(str(path))
        signature = tf1.saved_model.predict_signature_def({"x": x}, {"y": y})
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
        builder.save()


def main() -> None:
    base = Path(sys.argv[1])
    zoo = Zoo()
    tf.saved_model.save(zoo, str(base / "zoo" / "0000007"), signatures=zoo.signatures())
    pair = Pair()
    tf.saved_model.save(pair, str(base / "pair" / "1"), signatures=pair.add)
    half_plus_three(base / "tf1" / "1")
    (base / "zoo" / "not-a-version").mkdir()
    (base / "broken" / "1").mkdir(parents=True)
    (base / "broken" / "1" / "saved_model.pb").write_bytes(b"this is no protocol buffer")
    (base / "absent" / "1").mkdir(parents=True)


if __name__ == "__main__":
    main()
