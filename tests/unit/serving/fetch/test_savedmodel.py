from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serval_serving.models.savedmodel import (
    MAX_FIELDS,
    ModelInvalid,
    SavedModel,
    TensorInfo,
    parse_saved_model,
)
from serval_serving.models.savedmodel_files import MAX_TEXT_BYTES, read_saved_model
from unit.serving.fetch.builders import DIGITS, chunk, number, saved_model, signature, tensor, varint
from unit.serving.wire.official import stubs


def test_signatures_are_read() -> None:
    model = parse_saved_model(saved_model(tags=("serve", "gpu")), ("gpu", "serve"))
    assert model.tags == ("serve", "gpu")
    assert list(model.signatures) == ["serving_default"], "the initialiser is no signature to call"
    digits = model.signatures["serving_default"]
    assert digits.method == "tensorflow/serving/predict"
    assert dict(digits.inputs) == {"images": TensorInfo("serving_default_images:0", "DT_STRING", (-1,))}
    assert list(digits.outputs.items()) == [
        ("classes", TensorInfo("StatefulPartitionedCall:0", "DT_INT64", (-1,))),
        ("probabilities", TensorInfo("StatefulPartitionedCall:1", "DT_FLOAT", (-1, 10))),
    ]


def test_shapes_and_types() -> None:
    inputs = {"a": tensor("a", 1, None), "b": tensor("b", 14, ()), "c": tensor("c", 99, (2, -1, 0)), "d": b""}
    inputs |= {"e": number(2, 1) + chunk(4, b""), "f": chunk(5, chunk(1, number(1, 3))), "g": chunk(5, b"")}
    plain = signature({"x": tensor("x", 1, ())}, {})
    model = parse_saved_model(saved_model(signatures={"s": signature(inputs, {}), "t": plain}))
    assert dict(model.signatures["s"].inputs) == {
        "a": TensorInfo("a", "DT_FLOAT", None),
        "b": TensorInfo("b", "DT_BFLOAT16", ()),
        "c": TensorInfo("c", "DT_99", (2, -1, 0)),
        "d": TensorInfo("", "DT_INVALID", ()),
        "e": TensorInfo("", "DT_FLOAT", (), "sparse tensor"),
        "f": TensorInfo("", "DT_INVALID", (), "ragged tensor"),
        "g": TensorInfo("", "DT_INVALID", (), "composite tensor"),
    }


def test_reader_agrees_with_the_protobuf_library() -> None:
    message = stubs().saved_model.SavedModel.FromString(saved_model(graph=b""))
    graph = message.meta_graphs[0]
    assert list(graph.meta_info_def.tags) == ["serve"]
    expected = graph.signature_def["serving_default"]
    got = parse_saved_model(message.SerializeToString()).signatures["serving_default"]
    for ours, theirs in ((got.inputs, expected.inputs), (got.outputs, expected.outputs)):
        assert {k: (v.name, v.shape) for k, v in ours.items()} == {
            k: (theirs[k].name, tuple(dim.size for dim in theirs[k].tensor_shape.dim)) for k in theirs
        }


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no graph"),
        (number(1, 1), "no graph"),
        (saved_model(tags=("train",)), "no graph has the tag 'serve' and no other one; tags found: 'train'"),
        (saved_model(tags=()), "tags found: none"),
        (saved_model(tags=("serve", "gpu")), "and no other one; tags found: 'serve', 'gpu'"),
        (
            saved_model(signatures={"s": signature({}, {"y": tensor("y", 21, ())})}),
            "output y is of type DT_VARIANT",
        ),
        (
            saved_model(signatures={"s": signature({"x": tensor("x", 21, ())}, {"y": tensor("y", 1, ())})}),
            "input x is of type DT_VARIANT",
        ),
        (
            saved_model(signatures={"s": signature({"x": tensor("x", 99, ())}, {})}),
            "input x is of type DT_99",
        ),
        (saved_model(signatures={}), "has no signature"),
        (saved_model(signatures={"__saved_model_init_op": DIGITS}), "has no signature"),
        (saved_model()[:-1], "ends inside a field"),
        (saved_model()[:50], "ends inside a field"),
        (b"<!DOCTYPE html>", "damaged or no SavedModel"),
        (number(2, 7), "holds a number"),
        (chunk(2, chunk(1, chunk(4, b"\xff\xfe"))), "UTF-8"),
        (b"\x80" * 11, "more than 10 bytes"),
        (varint(3), "field number 0"),
        (varint(1 << 3 | 3), "wire type 3"),
        (varint(1 << 3 | 1) + b"1234", "ends inside a field"),
        (chunk(2, number(9, 1) * (MAX_FIELDS + 1)), "more fields"),
    ],
)
def test_what_is_wrong_is_named(data: bytes, words: str) -> None:
    with pytest.raises(ModelInvalid, match=words):
        parse_saved_model(data)


def test_files(tmp_path: Path) -> None:
    with pytest.raises(ModelInvalid, match="no file"):
        read_saved_model(tmp_path)
    path = tmp_path / "saved_model.pb"
    path.touch()
    with pytest.raises(ModelInvalid, match="empty"):
        read_saved_model(tmp_path)
    path.write_bytes(saved_model())
    assert isinstance(read_saved_model(tmp_path), SavedModel)
    with pytest.raises(ModelInvalid, match="at most 10"):
        read_saved_model(tmp_path, max_bytes=10)
    with pytest.raises(ModelInvalid, match="no file"):
        read_saved_model(path)


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [({"x": 12}, {"y": 1}), ({}, {"y": 11}), ({"x": 1}, {"y": 21, "z": 1}), ({"x": 1}, {})],
    ids=["quantized input", "quantized output", "one output of two", "no output"],
)
def test_what_some_server_answers_is_taken(inputs: dict[str, int], outputs: dict[str, int]) -> None:
    tensors = ({name: tensor(name, kind, ()) for name, kind in one.items()} for one in (inputs, outputs))
    assert list(parse_saved_model(saved_model(signatures={"s": signature(*tensors)})).signatures) == ["s"]


def test_a_text_may_be_less_long(tmp_path: Path) -> None:
    with (tmp_path / "saved_model.pbtxt").open("wb") as file:
        file.truncate(MAX_TEXT_BYTES + 1)
    with pytest.raises(ModelInvalid, match=f"at most {MAX_TEXT_BYTES} "):
        read_saved_model(tmp_path)


@settings(max_examples=400, deadline=None)
@given(data=st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    try:
        parse_saved_model(data)
    except ModelInvalid:
        return


@settings(max_examples=400, deadline=None)
@given(changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8))
def test_damaged_model(changes: list[tuple[int, int]]) -> None:
    data = bytearray(saved_model())
    for place, value in changes:
        data[place % len(data)] = value
    try:
        parse_saved_model(bytes(data))
    except ModelInvalid:
        return


_NAMES = st.text(max_size=12)
_SHAPES = st.none() | st.lists(st.integers(-1, 2**40), max_size=5).map(tuple)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(_NAMES, st.tuples(_NAMES, _SHAPES), max_size=4))
def test_what_is_written_is_read(tensors: dict[str, tuple[str, tuple[int, ...] | None]]) -> None:
    body = signature({alias: tensor(name, 1, shape) for alias, (name, shape) in tensors.items()}, {})
    inputs = parse_saved_model(saved_model(signatures={"s": body})).signatures["s"].inputs
    assert {alias: (info.name, info.shape) for alias, info in inputs.items()} == tensors
    assert list(inputs) == sorted(tensors)
