"""What the fetcher takes, the server loads, and the other way round."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from serval_serving.fetch.errors import FetchError
from serval_serving.fetch.model.frameworks import FRAMEWORKS
from serval_serving.fetch.model.weights import WEIGHTS_FORMAT
from serval_serving.models.formats import FORMATS, foreign, foreign_file
from serval_serving.models.savedmodel import DTYPE_NAMES, NOT_CARRIED
from serval_serving.wire.dtypes import DataType, numpy_dtype
from serval_serving.wire.errors import UnsupportedDtypeError

SECONDS = 240
CALLS = "calls of "
CALLED = ["ragged and plain outputs", "a ragged and a plain output"]
"""Models that were called too; this module does not import `odd_models`, which loads TensorFlow."""
TAKEN = {
    "plain",
    "one graph of two",
    "one graph of two with more tags",
    "text",
    "binary beside damaged text",
    "TF2",
    "ragged input",
    "sparse input",
    "ragged and plain outputs",
    "a ragged and a plain output",
    "ONNX in a SavedModel",
    "ONNX",
    "ONNX with data",
}
"""A composite input is flattened by TensorFlow, so that its parts can be sent."""
REFUSED = {
    "more tags": "no graph has the tag 'serve' and no other one; tags found: 'serve', 'gpu'",
    "another tag": "tags found: 'gpu'",
    "no signature": "the model has no signature",
    "text with more tags": "tags found: 'serve', 'gpu'",
    "text without a signature": "the model has no signature",
    "damaged text": "saved_model.pbtxt is damaged",
    "damaged": "saved_model.pb is damaged",
    "empty": "saved_model.pb is empty",
    "sparse output": "of serving_default, output y is a sparse tensor, which the predict API cannot carry",
    "ragged output": "output y is a ragged tensor",
    "variant output": "output y is of type DT_VARIANT",
    "a SavedModel in a folder of its version": "version 1 holds no saved_model.pb",
    "TensorFlow Lite": "model.tflite is a TensorFlow Lite model, which is not served; deploy the SavedModel",
    "Keras": "model.keras is a Keras model, which is not served; export it",
    "frozen graph": "frozen_inference_graph.pb is a graph that is no SavedModel",
    "nothing": "version 1 holds no saved_model.pb",
    "several ONNX files": "several ONNX files",
    "damaged ONNX": "model.onnx is damaged",
    "ONNX with bfloat16": "output y is bfloat16",
    "ONNX with complex numbers": "input x is complex64",
    "ONNX with a sequence": "output y is a sequence",
}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    """What the fetcher and the server say of each odd model."""
    done = subprocess.run(
        [sys.executable, "-m", "unit.serving.models.odd_models", str(tmp_path_factory.mktemp("odd"))],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    return {name: (one[0], one[1]) for name, one in json.loads(done.stdout.splitlines()[-1]).items()}


@pytest.mark.parametrize("name", CALLED)
def test_what_can_be_answered_is_enough(said: dict[str, tuple[str, str]], name: str) -> None:
    """One signature among others, or one output among others."""
    refused, plain = said[CALLS + name]
    assert (
        refused
        == "signature serving_default: output y is a ragged tensor, which the predict API cannot carry"
    )
    assert plain == "[[2.0, 2.0]]"


def test_fetcher_and_server_agree(said: dict[str, tuple[str, str]]) -> None:
    said = {name: answers for name, answers in said.items() if not name.startswith(CALLS)}
    fetched, loaded = said.pop("quantized output")
    assert fetched == "", "TensorFlow Serving answers it"
    assert "output y is of type DT_QINT8" in loaded
    assert {name for name, (fetched, _) in said.items() if not fetched} == TAKEN
    assert {name for name, (_, loaded) in said.items() if not loaded} == TAKEN
    assert {name for name, answers in said.items() if all(answers)} == set(REFUSED)


def test_what_is_wrong_is_named(said: dict[str, tuple[str, str]]) -> None:
    assert {name: words for name, words in REFUSED.items() if words not in said[name][0]} == {}


def test_the_server_names_what_it_cannot_answer(said: dict[str, tuple[str, str]]) -> None:
    for name in ("sparse output", "ragged output", "variant output", "TensorFlow Lite", "ONNX with bfloat16"):
        assert REFUSED[name] in said[name][1]


def test_onnx_beside_a_saved_model_is_not_taken_for_the_model() -> None:
    """The server would load the SavedModel."""
    with pytest.raises(FetchError, match=r"beside model.onnx there is a SavedModel") as caught:
        FRAMEWORKS["ONNX"].marker(["model.onnx", "saved_model.pb"])
    assert caught.value.reason == "ModelInvalid"
    assert FRAMEWORKS["TensorFlow"].marker(["model.onnx", "saved_model.pb"]) == "saved_model.pb"


def test_every_format_can_be_asked_for() -> None:
    assert {one.format for one in FRAMEWORKS.values()} == {*FORMATS, WEIGHTS_FORMAT}


def test_types_that_are_not_carried_are_those_without_a_codec() -> None:
    def carried(number: int) -> bool:
        try:
            numpy_dtype(number)
        except UnsupportedDtypeError:
            return number == DataType.DT_STRING
        return True

    assert {name for number, name in DTYPE_NAMES.items() if not carried(number)} == NOT_CARRIED


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["net.TFLITE"], "net.TFLITE is a TensorFlow Lite model"),
        (["a.txt", "net.pth"], "net.pth is a PyTorch model"),
        (["model.weights.h5"], "model.weights.h5 is a Keras model"),
        (["._net.tflite", "readme.md"], ""),
    ],
)
def test_foreign_files_are_named(files: list[str], words: str) -> None:
    assert foreign(files).startswith(words)
    assert bool(foreign(files)) is bool(words)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"\x1c\0\0\0TFL3\0\0", "a TensorFlow Lite model"),
        (b"\x89HDF\r\n", "a Keras"),
        (b"\x08\x01", ""),
        (b"", ""),
    ],
)
def test_foreign_files_are_known_by_their_first_bytes(head: bytes, words: str) -> None:
    assert foreign_file(head).startswith(words)
    assert bool(foreign_file(head)) is bool(words)
