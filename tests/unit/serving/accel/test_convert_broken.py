"""Models that cannot be converted, and what their users are told."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import tensorflow as tf
from tf2onnx import tfonnx

from serval_contract.conversion_reasons import MODEL_NOT_CONVERTIBLE
from serval_contract.reasons import MODEL_INVALID
from serval_serving.accel.convert import saved_model
from serval_serving.accel.convert.cut import choose_cut
from serval_serving.accel.convert.device_graph import device_graph
from serval_serving.accel.convert.host_graph import host_graph
from serval_serving.accel.convert.options import InputTensor
from serval_serving.accel.convert.to_onnx import to_onnx
from serval_serving.stages.program import StageFailure
from unit.serving.accel.convert_models import numbers, save, tf1

v1 = tf.compat.v1
KERNEL = np.ones((3, 3, 3, 4), np.float32)


def convert(folder: Path, wanted: InputTensor | None = None, outputs: tuple[str, ...] = ()) -> Any:
    """All that reads the SavedModel, in this process."""
    model = saved_model.load(folder, outputs)
    cut = choose_cut(model, wanted)
    ends = [one.name for one in model.outputs.values()]
    graph = device_graph(model, cut, ends)
    if cut.host_input is not None:
        host_graph(model, cut, cut.host_input)
    return to_onnx(graph, cut.tensor.name, ends, model.weights)


def conv(x: Any) -> Any:
    return tf.nn.conv2d(x, tf.constant(KERNEL), 1, "SAME")


def two_inputs(folder: Path) -> Path:
    def graph() -> Any:
        x, z = (v1.placeholder(tf.float32, [None, 8, 8, 3], name=name) for name in "xz")
        return {"x": x, "z": z}, {"y": conv(x) + conv(z)}

    return save(folder, graph)


def two_branches(folder: Path) -> Path:
    def graph() -> Any:
        images = v1.placeholder(tf.string, [None], name="images")
        raw = tf.reshape(tf.io.decode_raw(images, tf.float32), [-1, 8, 8, 3])
        return {"images": images}, {"y": conv(raw * 2.0) + conv(raw + 1.0)}

    return save(folder, graph)


def no_layers(folder: Path) -> Path:
    def graph() -> Any:
        images = v1.placeholder(tf.string, [None], name="images")
        return {"images": images}, {"y": tf.strings.length(images)}

    return save(folder, graph)


def string_output(folder: Path) -> Path:
    return numbers(folder, lambda x: tf.strings.as_string(tf.reduce_mean(conv(x), [1, 2])))


def table(folder: Path) -> Path:
    def layers(x: Any) -> Any:
        keys = tf.range(4, dtype=tf.int64)
        labels = tf.lookup.KeyValueTensorInitializer(keys, keys + 5)
        classes = tf.lookup.StaticHashTable(labels, -1)
        return classes.lookup(tf.argmax(tf.reduce_mean(conv(x), [1, 2]), axis=1))

    return numbers(folder, layers)


def table_before(folder: Path) -> Path:
    def graph() -> Any:
        images = v1.placeholder(tf.string, [None], name="images")
        labels = tf.lookup.KeyValueTensorInitializer(tf.constant(["a"]), tf.constant([1.0]))
        found = tf.lookup.StaticHashTable(labels, 0.0).lookup(images)
        x = tf.ensure_shape(tf.tile(found[:, None, None, None], [1, 8, 8, 3]), [None, 8, 8, 3])
        return {"images": images}, {"y": conv(x)}

    return save(folder, graph)


def loop(folder: Path) -> Path:
    def layers(x: Any) -> Any:
        return tf.while_loop(lambda y: tf.reduce_sum(y) < 1e6, lambda y: y * 2.0, [conv(x)])

    return numbers(folder, layers)


def gather(folder: Path) -> Path:
    """ResourceGather reads a variable without ReadVariableOp."""

    def layers(x: Any) -> Any:
        rows = v1.get_variable("rows", initializer=np.ones((9, 3), np.float32), use_resource=True)
        return tf.nn.embedding_lookup(rows, tf.argmax(tf.reduce_mean(conv(x), [1, 2]), axis=1))

    return numbers(folder, layers)


def unsupported(folder: Path) -> Path:
    return numbers(folder, lambda x: tf.linalg.inv(conv(x)[..., :3, :3]))


def training_norm(folder: Path) -> Path:
    def layers(x: Any) -> Any:
        ones = tf.ones([4])
        return v1.nn.fused_batch_norm(conv(x), ones, ones, is_training=True)[0]

    return numbers(folder, layers)


def nan_weights(folder: Path) -> Path:
    def layers(x: Any) -> Any:
        values = KERNEL.copy()
        values[0, 0, 0, :2] = (np.nan, np.inf)
        return tf.nn.conv2d(x, v1.get_variable("kernel", initializer=values, use_resource=True), 1, "SAME")

    return numbers(folder, layers)


def corrupted(folder: Path) -> Path:
    (data,) = (tf1(folder) / "variables").glob("variables.data-*")
    data.write_bytes(data.read_bytes()[:100])
    return folder


def no_variables(folder: Path) -> Path:
    for path in (tf1(folder) / "variables").iterdir():
        path.unlink()
    return folder


def damaged(folder: Path) -> Path:
    (tf1(folder) / "saved_model.pb").write_bytes(b"no message")
    return folder


BROKEN: list[tuple[Callable[[Path], Path], str, str]] = [
    (
        lambda folder: tf1(folder, signature="other"),
        MODEL_NOT_CONVERTIBLE,
        "no signature serving_default; it has other",
    ),
    (two_inputs, MODEL_NOT_CONVERTIBLE, "2 inputs, x, z"),
    (two_branches, MODEL_NOT_CONVERTIBLE, r"name one of them with --inputs: mul:0 \[\?, 8, 8, 3\], add:0"),
    (no_layers, MODEL_NOT_CONVERTIBLE, "no convolution and no product of matrices"),
    (
        lambda folder: numbers(folder, conv, (None, None, None, 3)),
        MODEL_NOT_CONVERTIBLE,
        r"x:0 is \[\?, \?, \?, 3\].*--inputs",
    ),
    (lambda folder: numbers(folder, conv, (8, 8, 8, 3)), MODEL_NOT_CONVERTIBLE, "batches of 8 alone"),
    (string_output, MODEL_NOT_CONVERTIBLE, r"are strings: AsString \(AsString\).*--outputs"),
    (table, MODEL_NOT_CONVERTIBLE, "tables or other resources: .*LookupTableFindV2"),
    (table_before, MODEL_NOT_CONVERTIBLE, "the preprocessing needs tables"),
    (loop, MODEL_NOT_CONVERTIBLE, r"a choice or a loop: .*\(StatelessWhile\)"),
    (gather, MODEL_NOT_CONVERTIBLE, "ResourceGather"),
    (training_norm, MODEL_NOT_CONVERTIBLE, "batch normalisation in training mode"),
    (
        lambda folder: numbers(folder, lambda x: tf.linalg.inv(conv(x)[..., :3, :3])),
        MODEL_NOT_CONVERTIBLE,
        "MatrixInverse",
    ),
    (nan_weights, MODEL_INVALID, "2 of 108 values of weight kernel are no finite numbers"),
    (corrupted, MODEL_INVALID, "cannot be loaded: DataLossError|OutOfRange"),
    (no_variables, MODEL_INVALID, "cannot be loaded|does not find the variables"),
    (damaged, MODEL_INVALID, "cannot be loaded: .*parse"),
]


@pytest.mark.parametrize(("make", "reason", "words"), BROKEN, ids=[words[:30] for _, _, words in BROKEN])
def test_broken(tmp_path: Path, make: Callable[[Path], Path], reason: str, words: str) -> None:
    folder = make(tmp_path / "model")
    with pytest.raises(StageFailure) as failed:
        convert(folder)
    assert (failed.value.reason, failed.value.permanent) == (reason, True)
    assert re.search(words, failed.value.message), failed.value.message


def test_outputs_that_cannot_be_had_may_be_left_out(tmp_path: Path) -> None:
    def graph() -> Any:
        x = v1.placeholder(tf.float32, [None, 8, 8, 3], name="x")
        scores = tf.identity(tf.reduce_mean(conv(x), [1, 2]), name="scores")
        return {"x": x}, {"scores": scores, "text": tf.strings.as_string(scores)}

    folder = save(tmp_path / "model", graph)
    with pytest.raises(StageFailure, match="strings"):
        convert(folder)
    assert [one.name for one in convert(folder, outputs=("scores:0",)).graph.output] == ["scores:0"]


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (InputTensor("nothing:0"), "no tensor nothing:0; candidates for the network's input: "),
        (InputTensor("InputImage:0", (None, 9, 16, 3)), r"has shape \[\?, 16, 16, 3\], not \[\?, 9, 16, 3\]"),
        (InputTensor("images:0"), "type string"),
        (InputTensor("features:0", (None, 1, 1, 16)), ""),
    ],
)
def test_the_named_input(tmp_path: Path, wanted: InputTensor, words: str) -> None:
    folder = tf1(tmp_path / "model")
    if words:
        with pytest.raises(StageFailure, match=words):
            convert(folder, wanted)
    else:
        assert [one.name for one in convert(folder, wanted).graph.input] == ["features:0"]


def test_an_open_shape_may_be_given(tmp_path: Path) -> None:
    folder = numbers(tmp_path / "model", conv, (None, None, None, 3))
    (given,) = convert(folder, InputTensor("x:0", (1, 8, 8, 3))).graph.input
    assert [dim.dim_value for dim in given.type.tensor_type.shape.dim] == [1, 8, 8, 3]


def test_a_keras_model_inside_a_module_is_named(tmp_path: Path) -> None:
    layers = tf.keras.Sequential([tf.keras.Input([8, 8, 3]), tf.keras.layers.Conv2D(4, 3)])

    class Module(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = layers

        @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3], tf.float32)])
        def serve(self, x: Any) -> Any:
            return {"y": self.layers(x, training=False)}

    module = Module()
    tf.saved_model.save(module, str(tmp_path / "model"), signatures={"serving_default": module.serve})
    with pytest.raises(StageFailure, match=r"does not find the variables.*ExportArchive"):
        convert(tmp_path / "model")


def flagged(folder: Path, flag: Callable[[], Any]) -> Path:
    """Batch normalisation that a flag switches, and a branch for training only."""

    def graph() -> Any:
        x = v1.placeholder(tf.float32, [None, 8, 8, 3], name="x")
        training = flag()
        y = tf.cond(training, lambda: conv(x) * 100.0, lambda: conv(x) + 1.0)
        y += 1000.0 * tf.cast(training, tf.float32)
        return {"x": x}, {"y": tf.identity(y, name="y")}

    return save(folder, graph)


@pytest.mark.parametrize(
    "flag",
    [
        lambda: v1.placeholder_with_default(True, [], name="is_training"),
        lambda: v1.placeholder_with_default(True, [], name="net/keras_learning_phase"),
        lambda: v1.placeholder(tf.bool, [], name="training_1"),
    ],
)
def test_training_mode_is_off(tmp_path: Path, flag: Callable[[], Any]) -> None:
    v1.disable_control_flow_v2()
    try:
        folder = flagged(tmp_path / "model", flag)
    finally:
        v1.enable_control_flow_v2()
    model = convert(folder)
    operations = [node.op_type for node in model.graph.node]
    assert operations.count("Conv") == 1
    assert not {"If", "Where"} & set(operations)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x:0": np.ones((1, 8, 8, 3), np.float32)})
    assert found[0, 4, 4].tolist() == [28.0] * 4, "27 of the convolution, 1 of the branch for inference"


def test_another_choice_is_no_flag(tmp_path: Path) -> None:
    v1.disable_control_flow_v2()
    try:
        folder = flagged(tmp_path / "model", lambda: v1.placeholder_with_default(True, [], name="bright"))
    finally:
        v1.enable_control_flow_v2()
    with pytest.raises(StageFailure, match=r"choice or a loop: .*\(Switch\)"):
        convert(folder)


@pytest.mark.parametrize("frozen", [True, False])
def test_weights_never_enter_the_graph_that_tf2onnx_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frozen: bool
) -> None:
    def layers(x: Any) -> Any:
        if frozen:
            return conv(x)
        return tf.nn.conv2d(x, v1.get_variable("kernel", initializer=KERNEL, use_resource=True), 1, "SAME")

    seen: list[Any] = []
    convert_graph = tfonnx.process_tf_graph

    def process(graph: Any, **options: Any) -> Any:
        seen.extend(graph.get_operations())
        return convert_graph(graph, **options)

    monkeypatch.setattr(tfonnx, "process_tf_graph", process)
    model = convert(numbers(tmp_path / "model", layers))
    assert "Placeholder" in [one.type for one in seen if one.outputs and one.outputs[0].shape == KERNEL.shape]
    assert not [one for one in seen if one.type == "Const" and one.outputs[0].shape == KERNEL.shape]
    assert [tuple(one.dims) for one in model.graph.initializer if len(one.dims) == 4] == [KERNEL.shape]
