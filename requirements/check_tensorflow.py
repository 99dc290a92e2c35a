"""Proves, in the build, that the trimmed TensorFlow still writes, loads and runs a SavedModel.

The model decodes an image in the graph, convolves it and loads through the TF1 session loader, as the model
server does. An import that trimming broke fails the build here and not a pod.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf

v1 = tf.compat.v1


def export(folder: str) -> None:
    """Write a model that takes PNG bytes and gives the mean of a convolution."""
    with v1.Graph().as_default(), v1.Session() as session:
        images = v1.placeholder(tf.string, [None], name="images")
        spec = tf.TensorSpec([8, 8, 1], tf.float32)
        pixels = tf.map_fn(decode, images, fn_output_signature=spec)
        weights = v1.get_variable("weights", initializer=np.ones((3, 3, 1, 2), np.float32))
        scores = tf.reduce_mean(tf.nn.conv2d(pixels, weights, 1, "VALID"), axis=[1, 2])
        session.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(session, folder, {"images": images}, {"scores": scores})


def decode(data: tf.Tensor) -> tf.Tensor:
    """PNG bytes to 8 x 8 pixels of one channel."""
    image = tf.io.decode_image(data, 1, expand_animations=False)
    return tf.image.resize(tf.ensure_shape(image, [None, None, 1]), [8, 8])


def score(folder: str) -> np.ndarray:
    """Load the model as the server does and score one white image."""
    with v1.Graph().as_default(), v1.Session() as session:
        png = session.run(tf.io.encode_png(tf.fill([8, 8, 1], tf.constant(1, tf.uint8))))
        signature = v1.saved_model.loader.load(session, ["serve"], folder).signature_def["serving_default"]
        run = session.make_callable(signature.outputs["scores"].name, [signature.inputs["images"].name])
        return np.asarray(run([png]))


def main() -> None:
    """Fail unless the answer is exact: nine ones under every position of the kernel."""
    with tempfile.TemporaryDirectory() as folder:
        model = str(Path(folder, "1"))
        export(model)
        np.testing.assert_array_equal(score(model), [[9.0, 9.0]])


if __name__ == "__main__":
    main()
