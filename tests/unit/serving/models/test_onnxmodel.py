from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import convert_model_to_external_data

from serval_serving.models import onnxmodel
from serval_serving.models.onnxmodel import (
    MAX_DEPTH,
    MAX_FIELDS,
    OnnxModel,
    choose_onnx_file,
    onnx_file,
    parse_onnx,
    read_onnx_signature,
)
from serval_serving.models.savedmodel import ModelInvalid, TensorInfo
from support.whole import amount
from unit.serving.engines import onnx_models
from unit.serving.fetch.builders import chunk, number

DATA = "weights.bin"


def signature(made: onnx.ModelProto) -> tuple[dict[str, TensorInfo], dict[str, TensorInfo]]:
    (only,) = parse_onnx(made.SerializeToString()).signatures.values()
    return dict(only.inputs), dict(only.outputs)


def with_data_file(folder: Path, location: str = DATA, size: int = 2000) -> onnx.ModelProto:
    """A model whose weights lie in a file of their own."""
    made = onnx_models.half_plus_two()
    weights = numpy_helper.from_array(np.zeros(size // 4, dtype=np.float32), "half")
    made.graph.initializer[0].CopyFrom(weights)
    convert_model_to_external_data(made, location=DATA, size_threshold=0)
    onnx.save_model(made, str(folder / "model.onnx"))
    if location != DATA:
        for tensor in made.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = location
        (folder / "model.onnx").write_bytes(made.SerializeToString())
    return made


def test_a_model_is_read() -> None:
    model = parse_onnx(onnx_models.half_plus_two().SerializeToString())
    assert (model.ir_version, model.opset) == (onnx_models.IR_VERSION, onnx_models.OPSET)
    assert model.data_files == {}
    only = model.signatures["serving_default"]
    assert list(model.signatures) == ["serving_default"]
    assert only.method == "tensorflow/serving/predict"
    assert dict(only.inputs) == {"x": TensorInfo("x", "DT_FLOAT", (-1,))}, "weights are no inputs"
    assert dict(only.outputs) == {"y": TensorInfo("y", "DT_FLOAT", (-1,))}


def test_tensors_come_sorted() -> None:
    inputs, outputs = signature(onnx_models.sum_and_difference())
    assert (list(inputs), list(outputs)) == (["a", "b"], ["minus", "sum"])


@pytest.mark.parametrize(
    ("shape", "read"),
    [(None, None), ([], ()), ([3, "N", 0], (3, -1, 0)), ([None, 2], (-1, 2))],
)
def test_shapes(shape: list[int | str] | None, read: tuple[int, ...] | None) -> None:
    inputs, _ = signature(onnx_models.echo(TensorProto.FLOAT, shape))
    assert inputs["x"].shape == read


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (TensorProto.FLOAT, "DT_FLOAT"),
        (TensorProto.UINT8, "DT_UINT8"),
        (TensorProto.INT8, "DT_INT8"),
        (TensorProto.UINT16, "DT_UINT16"),
        (TensorProto.INT16, "DT_INT16"),
        (TensorProto.INT32, "DT_INT32"),
        (TensorProto.INT64, "DT_INT64"),
        (TensorProto.STRING, "DT_STRING"),
        (TensorProto.BOOL, "DT_BOOL"),
        (TensorProto.FLOAT16, "DT_HALF"),
        (TensorProto.DOUBLE, "DT_DOUBLE"),
        (TensorProto.UINT32, "DT_UINT32"),
        (TensorProto.UINT64, "DT_UINT64"),
    ],
)
def test_types(kind: int, name: str) -> None:
    inputs, outputs = signature(onnx_models.echo(kind))
    assert inputs["x"].dtype == outputs["y"].dtype == name


def of_type(kind: onnx.TypeProto, *, output: bool = False) -> onnx.ModelProto:
    made = onnx_models.echo(TensorProto.FLOAT)
    value = helper.make_value_info("v", kind)
    (made.graph.output if output else made.graph.input)[0].CopyFrom(value)
    return made


FLOATS = helper.make_tensor_type_proto(TensorProto.FLOAT, [1])
MAP = helper.make_map_type_proto(TensorProto.INT64, FLOATS)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (of_type(helper.make_sequence_type_proto(MAP), output=True), "output v is a sequence.*zipmap=False"),
        (of_type(MAP, output=True), "output v is a map"),
        (of_type(helper.make_optional_type_proto(FLOATS)), "input v is a optional value"),
        (of_type(helper.make_sparse_tensor_type_proto(TensorProto.FLOAT, [2])), "input v is a sparse tensor"),
        (of_type(onnx.TypeProto()), "input v has no type"),
        (onnx_models.echo(TensorProto.FLOAT8E4M3FN), "input x has ONNX's element type 17"),
        (onnx_models.model([], [("x", TensorProto.FLOAT, [1])], []), "has no output"),
    ],
)
def test_what_cannot_be_served_is_named(made: onnx.ModelProto, words: str) -> None:
    with pytest.raises(ModelInvalid, match=words):
        parse_onnx(made.SerializeToString())


def test_an_output_may_lack_its_type() -> None:
    _, outputs = signature(of_type(onnx.TypeProto(), output=True))
    assert outputs == {"v": TensorInfo("v", "DT_INVALID", None)}


def without(field: str) -> bytes:
    made = onnx_models.half_plus_two()
    made.ClearField(field)
    return made.SerializeToString()


def nested(depth: int) -> bytes:
    """Graphs inside the nodes of graphs."""
    graph = b""
    for _ in range(depth):
        graph = chunk(1, chunk(5, chunk(6, graph)))
    return number(1, 8) + chunk(7, graph)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no version of its format"),
        (without("ir_version"), "no version of its format"),
        (without("graph"), "no graph"),
        (without("opset_import"), "which version of the operators"),
        (b"<!DOCTYPE html>", "damaged or no ONNX model"),
        (onnx_models.half_plus_two().SerializeToString()[:-1], "damaged.*ends inside a"),
        (number(1, 8) + number(7, 7), "holds a number"),
        (nested(MAX_DEPTH + 2), "nested more than"),
    ],
)
def test_what_is_wrong_is_named(data: bytes, words: str) -> None:
    with pytest.raises(ModelInvalid, match=words):
        parse_onnx(data)


def test_more_fields_than_any_model_needs(
    monkeypatch: pytest.MonkeyPatch, sampled: Callable[[int, int, str], None]
) -> None:
    limit = amount(100_000, MAX_FIELDS)
    sampled(limit, MAX_FIELDS, "fields")
    monkeypatch.setattr(onnxmodel, "MAX_FIELDS", limit)
    with pytest.raises(ModelInvalid, match="more fields"):
        parse_onnx(number(99, 1) * (limit + 1))


def test_long_attributes_cost_no_fields() -> None:
    """Trees have more numbers in their attributes than a model may have fields."""
    made = onnx_models.half_plus_two()
    made.graph.node.append(helper.make_node("Tree", ["x"], ["t"], values=[1] * 1000))
    node = made.graph.node[-1].SerializeToString()
    # onnx packs no numbers; a node of our own has as many fields as it has numbers.
    attribute = chunk(1, "values") + number(8, 1) * MAX_FIELDS + number(20, 7)
    data = made.SerializeToString()
    assert number(20, 7) in node
    data += chunk(7, chunk(1, chunk(5, attribute)))
    assert "x" in parse_onnx(data).signatures["serving_default"].inputs


def test_data_files(tmp_path: Path) -> None:
    with_data_file(tmp_path)
    path = tmp_path / DATA
    size = path.stat().st_size
    assert read_onnx_signature(tmp_path).data_files == {DATA: size}
    with path.open("r+b") as file:
        file.truncate(size - 1)
    with pytest.raises(ModelInvalid, match=f"data file {DATA} has {size - 1} bytes; the model needs {size}"):
        read_onnx_signature(tmp_path)
    path.unlink()
    with pytest.raises(ModelInvalid, match=f"data file {DATA} is missing"):
        read_onnx_signature(tmp_path)
    path.mkdir()
    with pytest.raises(ModelInvalid, match=f"data file {DATA} is no file"):
        read_onnx_signature(tmp_path)


@pytest.mark.parametrize("location", ["../outside", "/etc/passwd", "a/../../outside"])
def test_data_files_outside(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "1"
    folder.mkdir()
    with_data_file(folder, location)
    (tmp_path / "outside").write_bytes(b"0" * 4000)
    with pytest.raises(ModelInvalid, match="lies outside the model's folder"):
        read_onnx_signature(folder)


def test_a_folder_of_links_into_an_image(tmp_path: Path) -> None:
    """The fetcher makes such a folder where the node mounts the image."""
    image, links = tmp_path / "image", tmp_path / "1"
    image.mkdir()
    links.mkdir()
    with_data_file(image)
    for path in image.iterdir():
        (links / path.name).symlink_to(path)
    assert list(read_onnx_signature(links).data_files) == [DATA]
    (links / DATA).unlink()
    (links / DATA).symlink_to(tmp_path / "outside")
    (image / DATA).rename(tmp_path / "outside")
    with pytest.raises(ModelInvalid, match="leads outside the model's folder"):
        read_onnx_signature(links)


def test_a_link_out_of_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "1"
    folder.mkdir()
    with_data_file(folder)
    (folder / DATA).rename(tmp_path / "outside")
    (folder / DATA).symlink_to(tmp_path / "outside")
    with pytest.raises(ModelInvalid, match="leads outside the model's folder"):
        read_onnx_signature(folder)


@pytest.mark.parametrize(
    ("key", "words"), [("location", "does not say where"), ("length", "no number of bytes")]
)
def test_a_damaged_note_of_a_data_file(tmp_path: Path, key: str, words: str) -> None:
    made = with_data_file(tmp_path)
    for entry in made.graph.initializer[0].external_data:
        if entry.key == key:
            entry.value = "" if key == "location" else "-4"
    with pytest.raises(ModelInvalid, match=words):
        parse_onnx(made.SerializeToString())


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        ([], None),
        (["readme.md", ".hidden.onnx"], None),
        (["net.onnx", "net.bin"], "net.onnx"),
        (["other.onnx", "model.onnx"], "model.onnx"),
    ],
)
def test_the_file_is_chosen(names: list[str], chosen: str | None) -> None:
    assert choose_onnx_file(names) == chosen


def test_several_files() -> None:
    with pytest.raises(ModelInvalid, match=r"none is named model.onnx: 0.onnx.*4.onnx and 2 more"):
        choose_onnx_file(f"{index}.onnx" for index in range(7))


def test_files(tmp_path: Path) -> None:
    assert onnx_file(tmp_path) is None
    with pytest.raises(ModelInvalid, match=r"there is no file model\.onnx"):
        read_onnx_signature(tmp_path)
    path = tmp_path / "net.onnx"
    path.touch()
    with pytest.raises(ModelInvalid, match=r"net\.onnx is empty"):
        read_onnx_signature(tmp_path)
    path.write_bytes(onnx_models.half_plus_two().SerializeToString())
    assert isinstance(read_onnx_signature(path), OnnxModel)
    with pytest.raises(ModelInvalid, match="at most 10"):
        read_onnx_signature(tmp_path, max_bytes=10)


@settings(max_examples=400, deadline=None)
@given(data=st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    try:
        parse_onnx(data)
    except ModelInvalid:
        return


@settings(max_examples=400, deadline=None)
@given(changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8))
def test_damaged_model(changes: list[tuple[int, int]]) -> None:
    data = bytearray(onnx_models.slow().SerializeToString())
    for place, value in changes:
        data[place % len(data)] = value
    try:
        parse_onnx(bytes(data))
    except ModelInvalid:
        return
