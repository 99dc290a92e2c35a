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


def _of_examples(serialized: Any) -> Any:
    """Scores of Examples that do not come by the input of the other signatures: 2x and 3x."""
    features = {"x": tf.io.FixedLenFeature([1], tf.float32, 1.0)}
    x = tf.compat.v1.io.parse_example(serialized, features)["x"]
    return tf.concat([2 * x, 3 * x], 1)


def examples(path: Path) -> None:
    """Signatures that take Examples, good and bad ones; y = 2x of the float feature `x`, default 1."""
    tf1 = tf.compat.v1
    with tf.Graph().as_default(), tf1.Session() as session:
        serialized = tf1.placeholder(tf.string, [None], name="tf_example")
        other = tf1.placeholder(tf.string, [None], name="other")
        x = tf1.io.parse_example(serialized, {"x": tf.io.FixedLenFeature([1], tf.float32, 1.0)})["x"]
        outputs = {
            "labels": tf.tile(tf.constant([["cat", "dog"]]), [tf.shape(x)[0], 1]),
            "three labels": tf.tile(tf.constant([["a", "b", "c"]]), [tf.shape(x)[0], 1]),
            "scores": tf.concat([x, 2 * x], 1),
            "doubles": tf.cast(tf.concat([x, x], 1), tf.float64),
            "numbers": tf.cast(tf.concat([x, x], 1), tf.int64),
            "column": 2 * x,
            "values": tf.reshape(2 * x, [-1]),
            "one row": tf.ones([1, 2]),
            "other scores": _of_examples(other),
            "one value": tf.ones([1]),
            "double values": tf.cast(tf.reshape(x, [-1]), tf.float64),
        }
        made = {
            name: _example_signature(
                kind, other if name == "other_input" else serialized, alias, chosen, outputs
            )
            for name, (kind, alias, chosen) in EXAMPLE_SIGNATURES.items()
        }
        made["predict"] = tf1.saved_model.predict_signature_def(
            {"inputs": serialized}, {"y": outputs["values"]}
        )
        made["unnamed"] = tf1.saved_model.predict_signature_def(
            {"inputs": serialized}, {"y": outputs["values"]}
        )
        made["unnamed"].method_name = "something/else"
        builder = tf1.saved_model.builder.SavedModelBuilder(str(path))
        builder.add_meta_graph_and_variables(session, ["serve"], made)
        builder.save()


def half_plus_two(path: Path) -> None:
    """y = x / 2 + 2 by TensorFlow 1: predict takes numbers amid the graph, the others Examples."""
    tf1 = tf.compat.v1
    with tf.Graph().as_default(), tf1.Session() as session:
        serialized = tf1.placeholder(tf.string, name="tf_example")
        parsed = tf1.io.parse_example(serialized, {"x": tf.io.FixedLenFeature([1], tf.float32)})
        x = tf.reshape(parsed["x"], [-1, 1], name="x")
        y = tf.add(x * 0.5, 2.0, name="y")
        info = tf1.saved_model.build_tensor_info
        made = {
            "serving_default": tf1.saved_model.predict_signature_def({"x": x}, {"y": y}),
            "classify_x_to_y": tf1.saved_model.build_signature_def(
                {"inputs": info(serialized)}, {"scores": info(y)}, C
            ),
            "regress_x_to_y": tf1.saved_model.build_signature_def(
                {"inputs": info(serialized)}, {"outputs": info(y)}, R
            ),
        }
        builder = tf1.saved_model.builder.SavedModelBuilder(str(path))
        builder.add_meta_graph_and_variables(session, ["serve"], made)
        builder.save()


class HalfPlusTwo(tf.Module):
    """The same by TensorFlow 2: each signature has an input tensor of its own."""

    def of_examples(self, inputs: Any) -> Any:
        x = tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([1], tf.float32)})["x"]
        return x * 0.5 + 2.0

    def signatures(self) -> dict[str, Any]:
        examples, numbers = spec([None], tf.string, "inputs"), spec([None, 1], tf.float32, "x")
        made = {
            "serving_default": tf.function(lambda x: {"y": x * 0.5 + 2.0}, [numbers]),
            "classify_x_to_y": tf.function(lambda inputs: {"scores": self.of_examples(inputs)}, [examples]),
            "regress_x_to_y": tf.function(lambda inputs: {"outputs": self.of_examples(inputs)}, [examples]),
        }
        return {name: function.get_concrete_function() for name, function in made.items()}


class AnyRank(tf.Module):
    """Two signatures that say nothing of the rank."""

    def signatures(self) -> dict[str, Any]:
        numbers = spec(None, tf.float32, "x")
        made = {
            "serving_default": tf.function(lambda x: {"y": x * 6.0}, [numbers]),
            "constant": tf.function(lambda x: {"y": 0.0 * tf.reduce_sum(x) + 2.0}, [numbers]),
        }
        return {name: function.get_concrete_function() for name, function in made.items()}


C, R = "tensorflow/serving/classify", "tensorflow/serving/regress"
EXAMPLE_SIGNATURES: dict[str, tuple[str, str, dict[str, str]]] = {
    "serving_default": (C, "inputs", {"classes": "labels", "scores": "scores"}),
    "classes": (C, "inputs", {"classes": "labels"}),
    "scores": (C, "inputs", {"scores": "scores"}),
    "other_input": (C, "inputs", {"scores": "other scores"}),
    "class_alias": (C, "images", {"scores": "scores"}),
    "class_outputs": (C, "inputs", {"a": "scores"}),
    "class_three": (C, "inputs", {"scores": "scores", "classes": "labels", "c": "scores"}),
    "class_rank": (C, "inputs", {"scores": "values"}),
    "class_dtype": (C, "inputs", {"scores": "doubles"}),
    "class_labels": (C, "inputs", {"classes": "numbers"}),
    "class_batch": (C, "inputs", {"scores": "one row"}),
    "class_sizes": (C, "inputs", {"classes": "three labels", "scores": "scores"}),
    "regress": (R, "inputs", {"outputs": "values"}),
    "regress_column": (R, "inputs", {"outputs": "column"}),
    "regress_alias": (R, "images", {"outputs": "values"}),
    "regress_outputs": (R, "inputs", {"a": "values"}),
    "regress_two": (R, "inputs", {"outputs": "values", "b": "values"}),
    "regress_shape": (R, "inputs", {"outputs": "scores"}),
    "regress_dtype": (R, "inputs", {"outputs": "double values"}),
    "regress_batch": (R, "inputs", {"outputs": "one value"}),
}
"""By name: the method, the alias of the input, and which tensor each output is."""


def _example_signature(
    method: str, serialized: Any, alias: str, chosen: dict[str, str], outputs: dict[str, Any]
) -> Any:
    info = tf.compat.v1.saved_model.build_tensor_info
    return tf.compat.v1.saved_model.build_signature_def(
        {alias: info(serialized)}, {name: info(outputs[key]) for name, key in chosen.items()}, method
    )


def with_defaults(path: Path) -> None:
    """A signature a + b, of which b may be left out."""
    tf1 = tf.compat.v1
    with tf.Graph().as_default(), tf1.Session() as session:
        a, b = (tf1.placeholder(tf.float32, [None], name=name) for name in "ab")
        signature = tf1.saved_model.predict_signature_def({"a": a, "b": b}, {"sum": a + b})
        signature.defaults["b"].CopyFrom(tf.make_tensor_proto([10.0]))
        builder = tf1.saved_model.builder.SavedModelBuilder(str(path))
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
        builder.save()


def main() -> None:
    base = Path(sys.argv[1])
    examples(base / "examples" / "5")
    with_defaults(base / "defaults" / "1")
    zoo = Zoo()
    tf.saved_model.save(zoo, str(base / "zoo" / "0000007"), signatures=zoo.signatures())
    pair = Pair()
    tf.saved_model.save(pair, str(base / "pair" / "1"), signatures=pair.add)
    half_plus_three(base / "tf1" / "1")
    half_plus_two(base / "half_plus_two" / "00000123")
    for name, module in (("half_plus_two_2", HalfPlusTwo()), ("any_rank", AnyRank())):
        tf.saved_model.save(module, str(base / name / "00000123"), signatures=module.signatures())
    (base / "zoo" / "not-a-version").mkdir()
    (base / "broken" / "1").mkdir(parents=True)
    (base / "broken" / "1" / "saved_model.pb").write_bytes(b"this is no protocol buffer")
    (base / "absent" / "1").mkdir(parents=True)


if __name__ == "__main__":
    main()
