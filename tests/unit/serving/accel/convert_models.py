"""Tiny SavedModels of TensorFlow 1 and 2 for the conversion."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from serval_serving.accel.artifact import Preprocessing
from serval_serving.accel.build_record import BuildRecord, write_build_record

v1 = tf.compat.v1

SIZE = 16
CLASSES = 7
MEANS = (123.68, 116.779, 103.939)
RECORD = BuildRecord(
    images="images:0",
    input="InputImage:0",
    features=("features:0",),
    preprocessing=Preprocessing(SIZE, SIZE, "Stretch", SIZE, "RGB", MEANS, (1.0, 1.0, 1.0)),
    network="Tiny",
    weights="Random",
)


def weights() -> dict[str, np.ndarray[Any, Any]]:
    """Kernels of very different sizes from channel to channel: per tensor, int8 would lose the small ones."""
    generator = np.random.default_rng(5)
    shapes = {"conv1": (3, 3, 3, 8), "conv2": (3, 3, 8, 16), "dense": (16, CLASSES)}
    made = {name: generator.standard_normal(shape) * 0.2 for name, shape in shapes.items()}
    made["conv1"] *= np.geomspace(0.01, 1, 8)
    return {name: value.astype(np.float32) for name, value in made.items()}


def network(x: Any, values: Any) -> tuple[Any, Any]:
    """Two convolutions, features of shape [n, 1, 1, 16], and probabilities."""
    x = tf.nn.relu(tf.nn.conv2d(x / 128.0, values["conv1"], 1, "SAME"))
    x = tf.nn.relu(tf.nn.conv2d(x, values["conv2"], 2, "SAME"))
    features = tf.reduce_mean(x, axis=[1, 2], keepdims=True)
    return features, lambda flat: tf.nn.softmax(tf.matmul(tf.reshape(flat, [-1, 16]), values["dense"]))


def preprocess(data: Any) -> Any:
    """One photo as the network takes it."""
    image = tf.cast(tf.io.decode_jpeg(data, 3, dct_method="INTEGER_ACCURATE"), tf.float32)
    return v1.image.resize_bilinear(image[None], [SIZE, SIZE])[0] - tf.constant(MEANS)


def photos_in(images: Any) -> Any:
    """A batch of photos as the network takes it."""
    return tf.map_fn(preprocess, images, fn_output_signature=tf.TensorSpec([SIZE, SIZE, 3], tf.float32))


def tf1(folder: Path, *, record: bool = True, **change: Any) -> Path:
    """A named graph with variables, as the build writes it."""

    def graph() -> tuple[dict[str, Any], dict[str, Any]]:
        images = v1.placeholder(tf.string, [None], name="images")
        x = tf.identity(photos_in(images), name="InputImage")
        values = {name: v1.get_variable(name, initializer=value) for name, value in weights().items()}
        features, classify = network(x, values)
        features = tf.identity(features, name="features")
        return {"images": images}, {
            "output_alias": tf.identity(classify(features), name="classifier/Softmax")
        }

    save(folder, graph, **change)
    if record:
        write_build_record(folder, RECORD)
    return folder


def save(
    folder: Path,
    graph: Callable[[], tuple[dict[str, Any], dict[str, Any]]],
    *,
    signature: str = "serving_default",
    initialize: bool = True,
) -> Path:
    """Write what `graph` makes: inputs and outputs."""
    with tf.Graph().as_default(), v1.Session() as session:
        inputs, outputs = graph()
        if initialize:
            session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        builder = v1.saved_model.Builder(str(folder))
        described = v1.saved_model.predict_signature_def(inputs, outputs)
        builder.add_meta_graph_and_variables(
            session, ["serve"], {signature: described}, main_op=v1.tables_initializer()
        )
        builder.save()
    return folder


def numbers(
    folder: Path, layers: Callable[[Any], Any], shape: tuple[int | None, ...] = (None, 8, 8, 3)
) -> Path:
    """A model that takes numbers: what `layers` makes of them is its only output."""

    def graph() -> tuple[dict[str, Any], dict[str, Any]]:
        x = v1.placeholder(tf.float32, shape, name="x")
        return {"x": x}, {"y": tf.identity(layers(x), name="y")}

    return save(folder, graph)


class Tiny(tf.Module):
    """The same network as `tf1`, for TensorFlow 2."""

    def __init__(self) -> None:
        super().__init__()
        self.values = {name: tf.Variable(value, name=name) for name, value in weights().items()}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="images")])
    def serve(self, images: Any) -> dict[str, Any]:
        """Photos to probabilities."""
        features, classify = network(tf.ensure_shape(photos_in(images), [None, SIZE, SIZE, 3]), self.values)
        return {"output_alias": classify(features)}


def tf2(folder: Path) -> Path:
    """A SavedModel of TensorFlow 2: its graph is one call of a function."""
    module = Tiny()
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})
    return folder


def expected(saved_model: Path, encoded: list[bytes]) -> np.ndarray[Any, Any]:
    """What TensorFlow computes of photos, by the session loader, as the server runs it."""
    with tf.Graph().as_default(), v1.Session() as session:
        meta = v1.saved_model.loader.load(session, ["serve"], str(saved_model))
        signature = meta.signature_def["serving_default"]
        (given,), (output,) = signature.inputs.values(), signature.outputs.values()
        return np.asarray(session.run(output.name, {given.name: encoded}))
