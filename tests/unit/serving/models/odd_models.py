"""Odd models, the same for the fetcher and the server: a program that asks both of each.

It runs in a process of its own: importing TensorFlow takes seconds and much memory. It prints one JSON
object: by name of the model, what the fetcher and the server say of it; an empty text where they take it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from onnx import TensorProto, helper

from serval_contract.models import ONNX, TENSORFLOW
from serval_serving.engines.base import LoadedModel, ModelLoadError
from serval_serving.fetch.errors import FetchError
from serval_serving.fetch.model.frameworks import FRAMEWORKS
from serval_serving.server.__main__ import engines
from serval_serving.server.settings import Settings
from serval_serving.wire.status import StatusError
from support.fetching import Fetch
from unit.serving.engines.onnx_models import echo, half_plus_two, model, with_data

Call = tuple[str, list[str]]
"""A signature, and the outputs that are wanted of it."""
CALLED: Mapping[str, tuple[Call, Call]] = {
    "ragged and plain outputs": (("serving_default", ["y"]), ("plain", ["y"])),
    "a ragged and a plain output": (("serving_default", ["y", "z"]), ("serving_default", ["z"])),
}
"""Two calls of some models; what they get is under the name of the model with `CALLS` before it."""
CALLS = "calls of "
Make = Callable[[Path], object]
"""Writes the files of a version into its folder, which exists."""


def graphs(*tag_sets: list[str], as_text: bool = False, signed: bool = True) -> Make:
    """A SavedModel with one graph for each set of tags."""

    def make(folder: Path) -> None:
        builder = tf.compat.v1.saved_model.Builder(str(folder / "made"))
        for number, tags in enumerate(tag_sets):
            with tf.Graph().as_default(), tf.compat.v1.Session() as session:
                x = tf.compat.v1.placeholder(tf.float32, [None], name="x")
                variable = tf.compat.v1.get_variable("v", initializer=2.0)
                y = tf.add(x, variable, name="y")
                session.run(tf.compat.v1.global_variables_initializer())
                signature = tf.compat.v1.saved_model.predict_signature_def({"x": x}, {"y": y})
                signatures = {"serving_default": signature} if signed else {}
                if number == 0:
                    builder.add_meta_graph_and_variables(session, tags, signature_def_map=signatures)
                else:
                    builder.add_meta_graph(tags, signature_def_map=signatures)
        builder.save(as_text=as_text)
        _lift(folder)

    return make


def answering(*outputs: str) -> Make:
    """A SavedModel with a signature for each kind of output, or kinds joined by "+"; the default first."""
    kinds: Mapping[str, Callable[[Any], Any]] = {
        "plain": lambda x: x * 2.0,
        "sparse": tf.sparse.from_dense,
        "ragged": tf.RaggedTensor.from_tensor,
        "variant": lambda x: tf.raw_ops.TensorListFromTensor(tensor=x, element_shape=[-1]),
        "quantized": lambda x: tf.quantization.quantize(x, 0.0, 1.0, tf.qint8)[0],
    }

    def make(folder: Path) -> None:
        module = tf.Module()
        spec = [tf.TensorSpec([None, None], tf.float32, name="x")]
        made = {
            kind: tf.function(
                lambda x, k=kind: {
                    alias: kinds[one](x) for alias, one in zip("yz", k.split("+"), strict=False)
                },
                input_signature=spec,
            )
            for kind in outputs
        }
        names = ["serving_default", *outputs[1:]]
        tf.saved_model.save(
            module, str(folder / "made"), signatures=dict(zip(names, made.values(), strict=True))
        )
        _lift(folder)

    return make


def taking(kind: str) -> Make:
    """A SavedModel that takes a tensor of a composite type."""
    dense = {
        "ragged": tf.RaggedTensorSpec([None, None], tf.float32),
        "sparse": tf.SparseTensorSpec([None, None]),
    }

    def make(folder: Path) -> None:
        module = tf.Module()
        add = {"ragged": lambda x: x.to_tensor(), "sparse": tf.sparse.to_dense}[kind]
        function = tf.function(lambda x: {"y": add(x)}, input_signature=[dense[kind]])
        tf.saved_model.save(module, str(folder / "made"), signatures=function)
        _lift(folder)

    return make


def files(**contents: bytes) -> Make:
    """Files by name, with two underscores for a dot."""

    def make(folder: Path) -> None:
        for name, content in contents.items():
            (folder / name.replace("__", ".")).write_bytes(content)

    return make


def both(*makes: Make) -> Make:
    return lambda folder: [make(folder) for make in makes]


def onnx(made: Any) -> Make:
    return files(model__onnx=made.SerializeToString())


def in_a_folder(make: Make) -> Make:
    def inside(folder: Path) -> None:
        (folder / "export").mkdir()
        make(folder / "export")

    return inside


def _lift(folder: Path) -> None:
    made = folder / "made"
    for path in made.iterdir():
        path.rename(folder / path.name)
    made.rmdir()


def _sequence() -> Any:
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, ["N"]))
    graph = helper.make_graph(
        [helper.make_node("SequenceConstruct", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N"])],
        [helper.make_value_info("y", kind)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


_TO_BFLOAT16 = model(
    [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.BFLOAT16)],
    [("x", TensorProto.FLOAT, ["N"])],
    [("y", TensorProto.BFLOAT16, ["N"])],
)
TABLE: Mapping[str, tuple[str, Make]] = {
    "plain": (TENSORFLOW, graphs(["serve"])),
    "one graph of two": (TENSORFLOW, graphs(["train"], ["serve"])),
    "one graph of two with more tags": (TENSORFLOW, graphs(["serve", "gpu"], ["serve"])),
    "more tags": (TENSORFLOW, graphs(["serve", "gpu"])),
    "another tag": (TENSORFLOW, graphs(["gpu"])),
    "no signature": (TENSORFLOW, graphs(["serve"], signed=False)),
    "text": (TENSORFLOW, graphs(["serve"], as_text=True)),
    "text with more tags": (TENSORFLOW, graphs(["serve", "gpu"], as_text=True)),
    "text without a signature": (TENSORFLOW, graphs(["serve"], as_text=True, signed=False)),
    "damaged text": (TENSORFLOW, files(saved_model__pbtxt=b"meta_graphs { meta_info_def { tags: 'serve' }")),
    "binary beside damaged text": (TENSORFLOW, both(graphs(["serve"]), files(saved_model__pbtxt=b"{"))),
    "damaged": (TENSORFLOW, files(saved_model__pb=b"<!DOCTYPE html>")),
    "empty": (TENSORFLOW, files(saved_model__pb=b"")),
    "TF2": (TENSORFLOW, answering("plain")),
    "sparse output": (TENSORFLOW, answering("sparse")),
    "ragged output": (TENSORFLOW, answering("ragged")),
    "variant output": (TENSORFLOW, answering("variant")),
    "quantized output": (TENSORFLOW, answering("quantized")),
    "ragged input": (TENSORFLOW, taking("ragged")),
    "sparse input": (TENSORFLOW, taking("sparse")),
    "ragged and plain outputs": (TENSORFLOW, answering("ragged", "plain")),
    "a ragged and a plain output": (TENSORFLOW, answering("ragged+plain")),
    "a SavedModel in a folder of its version": (TENSORFLOW, in_a_folder(graphs(["serve"]))),
    "ONNX in a SavedModel": (TENSORFLOW, both(graphs(["serve"]), onnx(half_plus_two()))),
    "TensorFlow Lite": (TENSORFLOW, files(model__tflite=b"\x1c\0\0\0TFL3")),
    "Keras": (TENSORFLOW, files(model__keras=b"PK")),
    "frozen graph": (TENSORFLOW, files(frozen_inference_graph__pb=b"\n")),
    "nothing": (TENSORFLOW, files(readme__md=b"")),
    "ONNX": (ONNX, onnx(half_plus_two())),
    "several ONNX files": (ONNX, files(a__onnx=b"", b__onnx=b"")),
    "damaged ONNX": (ONNX, files(model__onnx=b"<!DOCTYPE html>")),
    "ONNX with data": (ONNX, with_data),
    "ONNX with bfloat16": (ONNX, onnx(_TO_BFLOAT16)),
    "ONNX with complex numbers": (ONNX, onnx(echo(TensorProto.COMPLEX64, ["N"]))),
    "ONNX with a sequence": (ONNX, onnx(_sequence())),
}


def fetched(folder: Path, name: str, framework: str) -> tuple[str, Path]:
    """Return what the fetcher says of a model, and the folder that it publishes."""
    fetch = Fetch(folder / "out" / name)
    fetch.folder.mkdir(parents=True)
    try:
        report = fetch(f"pvc://c/{name}", None, pvc_mount=folder / "in", framework=FRAMEWORKS[framework])
    except FetchError as error:
        return f"{error.reason}: {error.message}", folder / "in" / name / "1"
    return "", fetch.folder / "models" / "digits" / str(report.version)


def called(loaded: LoadedModel, calls: tuple[Call, Call]) -> tuple[str, str]:
    """Return what the calls get."""
    answers = []
    for signature, outputs in calls:
        try:
            found = loaded.run(signature, {"x": np.ones((1, 2), np.float32)}, outputs)
            answers.append(str(found[0].tolist()))
        except StatusError as error:
            answers.append(error.message)
    return answers[0], answers[1]


def main(folder: Path) -> None:
    """Make the models below `folder`, ask both of each, and print the answers."""
    loader = engines(Settings(), 1)
    said: dict[str, tuple[str, str]] = {}
    for place, (name, (framework, make)) in enumerate(TABLE.items()):
        version = folder / "in" / str(place) / "1"
        version.mkdir(parents=True)
        make(version)
        refused, path = fetched(folder, str(place), framework)
        try:
            loaded = loader.load(path)
            said[name] = (refused, "")
            if name in CALLED:
                said[CALLS + name] = called(loaded, CALLED[name])
            loaded.close()
        except ModelLoadError as error:
            said[name] = (refused, error.message)
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
