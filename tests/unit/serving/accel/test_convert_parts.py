"""Options, photos and the parts of an ONNX file."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tensorflow as tf
from onnx import TensorProto, helper

from serval_serving.accel.convert import photos
from serval_serving.accel.convert.accuracy import accuracy
from serval_serving.accel.convert.onnx_parts import fold, split
from serval_serving.accel.convert.options import InputTensor, parse_input, parse_outputs
from serval_serving.accel.photos import decode_photo
from serval_serving.stages.program import StageFailure


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", None),
        ("x", InputTensor("x:0")),
        ("net/x:1", InputTensor("net/x:1")),
        ('[{"name": "x", "shape": [null, 8, -1, 3]}]', InputTensor("x:0", (None, 8, None, 3))),
        ('[{"name": "x:0"}]', InputTensor("x:0")),
    ],
)
def test_input(text: str, wanted: InputTensor | None) -> None:
    assert parse_input(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "x,y",
        "[",
        "[1]",
        '[{"shape": [1]}]',
        '[{"name": "x", "shape": ["8"]}]',
        '[{"name": "x", "shape": [0]}]',
    ],
)
def test_what_is_no_input(text: str) -> None:
    with pytest.raises(ValueError, match=r"not several|neither a name|no dimension|Expecting"):
        parse_input(text)


def test_outputs() -> None:
    assert parse_outputs("a, b:1") == parse_outputs('["a", {"name": "b:1"}]') == ("a:0", "b:1")


def picture(path: Path, height: int, width: int, *, jpeg: bool = False) -> bytes:
    pixels = np.random.default_rng(height).integers(0, 255, (height, width, 3)).astype(np.uint8)
    data = bytes((tf.io.encode_jpeg if jpeg else tf.io.encode_png)(pixels).numpy())
    path.write_bytes(data)
    return data


def test_photos_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    picture(tmp_path / "a.png", 80, 90)
    picture(tmp_path / "more" / "b.JPG", 100, 70, jpeg=True)
    (tmp_path / "c.jpg").write_bytes(b"\xff\xd8 no photo")
    (tmp_path / "notes.txt").write_text("no photo, and not tried")
    found = photos.pictures(tmp_path, 6)
    assert (found.origin, found.skipped, len(found.encoded)) == ("Folder", 1, 6)
    sizes = {decode_photo(one).shape[:2] for one in found.encoded}
    assert {(80, 90), (100, 70)} <= sizes, "whole photos"
    assert len(sizes) == len(found.encoded), "and different parts of them"
    assert found == photos.pictures(tmp_path, 6), "the same in every run"


def test_large_photos_are_in_memory_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A camera's photos have tens of megabytes each when they are decoded."""
    for index in range(4):
        picture(tmp_path / f"{index}.png", 80, 90)
    decoded: weakref.WeakValueDictionary[int, np.ndarray[Any, Any]] = weakref.WeakValueDictionary()
    most = 0

    def decode(data: bytes) -> np.ndarray[Any, Any]:
        nonlocal most
        photo = decode_photo(data).copy()
        decoded[id(photo)] = photo
        most = max(most, len(decoded))
        return photo

    monkeypatch.setattr(photos, "decode_photo", decode)
    found = photos.pictures(tmp_path, 8)
    assert len([one for one in found.encoded if one]) == 8
    # The one before goes when the next one has come.
    assert most <= 2


def test_a_picture_that_would_fill_the_memory_is_not_decoded(tmp_path: Path) -> None:
    data = picture(tmp_path / "bomb.png", 4, 4)
    (tmp_path / "bomb.png").write_bytes(data[:16] + (60_000).to_bytes(4, "big") * 2 + data[24:])
    with pytest.raises(StageFailure, match="no usable JPEG or PNG file; 1 were tried"):
        photos.pictures(tmp_path, 2)


def test_photos_of_a_package_come_before_random_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "skimage" / "data").mkdir(parents=True)
    (tmp_path / "skimage" / "__init__.py").write_text("raise ImportError('only its files are wanted')")
    picture(tmp_path / "skimage" / "data" / "cat.png", 200, 300)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = photos.pictures(None, 3)
    assert found.origin == "Photos"
    assert all(max(decode_photo(one).shape[:2]) <= 200 for one in found.encoded), "square parts"
    monkeypatch.setattr(photos, "_PACKAGE", "no_such_package")
    assert photos.pictures(None, 3).origin == "Random"


def test_arrays(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.full((2, 3), 5.0))
    np.save(tmp_path / "several.npy", np.zeros((4, 2, 3)))
    np.save(tmp_path / "other.npy", np.zeros((9, 9)))
    np.save(tmp_path / "pickled.npy", np.array([{}], object), allow_pickle=True)
    found = photos.arrays(tmp_path, (None, 2, 3), "float32", 7)
    assert (found.shape, found.dtype) == ((7, 2, 3), np.float32)
    assert found.reshape(7, -1).max(axis=1).tolist() == [5, 0, 0, 0, 0, 5, 0]
    with pytest.raises(StageFailure, match=r"no \.npy file with inputs of shape \(8,\)"):
        photos.arrays(tmp_path, (None, 8), "float32", 7)


def described(name: str, width: int) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])


def model(*nodes: Any, outputs: dict[str, int]) -> onnx.ModelProto:
    """A graph on `x` of shape [batch, 4]; outputs by name with their width."""
    weights = np.arange(16, dtype=np.float32).reshape(4, 4)
    graph = helper.make_graph(
        list(nodes),
        "g",
        [described("x", 4)],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])
            for name, width in outputs.items()
        ],
        [onnx.numpy_helper.from_array(weights * scale, name) for name, scale in (("w", 1), ("v", 0.5))],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


HIDDEN = (helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["r"]))
SCORES = (helper.make_node("MatMul", ["r", "v"], ["s"]), helper.make_node("Softmax", ["s"], ["y"]))


@pytest.mark.parametrize(
    ("nodes", "features", "outputs", "between"),
    [
        ([*HIDDEN, *SCORES], [], ["y"], ["r"]),
        ([*HIDDEN, *SCORES], ["h"], ["h", "y"], ["h"]),
        # The classifier needs the input too, so there is nothing to split.
        ([*HIDDEN, *SCORES, helper.make_node("Add", ["y", "x"], ["z"])], [], ["z"], None),
        ([*HIDDEN, *SCORES, helper.make_node("Add", ["y", "x"], ["z"])], ["r"], ["r", "z"], None),
        # Two heads of a detector.
        ([*HIDDEN, helper.make_node("Sigmoid", ["h"], ["y"])], [], ["r", "y"], None),
        ([*HIDDEN], ["r"], ["r"], None),
    ],
)
def test_split(
    tmp_path: Path, nodes: list[Any], features: list[str], outputs: list[str], between: list[str] | None
) -> None:
    whole, device, classifier = (tmp_path / name for name in ("whole", "device", "classifier"))
    onnx.save(model(*nodes, outputs=dict.fromkeys(dict.fromkeys([*features, *outputs]), 4)), str(whole))
    first, second = split(whole, features, outputs, device, classifier)
    assert classifier.exists() == (second is not None) == (between is not None)
    onnx.checker.check_model(str(device), full_check=True)
    if second is not None:
        onnx.checker.check_model(str(classifier), full_check=True)
        assert (
            [one["name"] for one in first["outputs"]] == [one["name"] for one in second["inputs"]] == between
        )
        assert second["inputs"][0]["shape"] == (None, 4)
        assert [one.name for one in onnx.load(str(classifier)).graph.initializer] == ["v"]
    else:
        assert [one["name"] for one in first["outputs"]] == list(dict.fromkeys([*features, *outputs]))


def test_a_file_that_onnx_runtime_refuses(tmp_path: Path) -> None:
    broken = model(helper.make_node("Relu", ["nothing"], ["y"]), outputs={"y": 4})
    onnx.save(broken, str(tmp_path / "broken"))
    with pytest.raises(StageFailure, match="ONNX Runtime cannot load the converted network"):
        fold(tmp_path / "broken", tmp_path / "folded")


def test_accuracy() -> None:
    exact = {"f": np.array([[1.0, 0.0], [0.0, 0.0], [3.0, 4.0]]), "y": np.array([[1.0, 0], [1, 0], [0, 1]])}
    other = {"f": np.array([[0.0, 1.0], [0.0, 0.0], [3.0, 3.5]]), "y": np.array([[1.0, 0], [0, 1], [0, 1]])}
    found = accuracy(exact, other, ["f"], ["y"])
    assert found.least_cosine == 0
    assert found.cosine == pytest.approx((0 + 1 + 23 / (5 * 4.609772)) / 3)
    assert (found.largest_error, found.range) == (1.0, 4.0)
    assert (found.agreement, found.classes, found.images) == (pytest.approx(2 / 3), 2, 3)
    boxes = accuracy({"f": np.ones((2, 3, 4))}, {"f": np.ones((2, 3, 4))}, ["f"], ["f"])
    assert (boxes.cosine, boxes.agreement, boxes.classes) == (1.0, None, None)
