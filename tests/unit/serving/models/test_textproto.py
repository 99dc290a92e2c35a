from __future__ import annotations

import subprocess
import sys
from contextlib import suppress

import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st

from serval_serving.models.savedmodel import ModelInvalid, TensorInfo, parse_saved_model
from serval_serving.models.savedmodel_files import parse_saved_model_text
from serval_serving.models.textproto import MAX_DEPTH, TextError, Wanted, read_text
from unit.serving.wire.official import stubs

WANTED: Wanted = {"a": None, "m": {"b": None}}


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (b"", {}),
        (b"a: 1", {"a": ["1"]}),
        (b"a: 1 a: 2", {"a": ["1", "2"]}),
        (b"a: [1, 2], a: -3;", {"a": ["1", "2", "-3"]}),
        (b"a: 'x' \"y\"", {"a": ["xy"]}),
        (rb'a: "\n\"\x41\101 {"', {"a": ['\n"AA {']}),
        ("a: 'é'".encode(), {"a": ["é"]}),
        (b"# b: 1\nm { b: 1.5e-3 c { b: 2 } } # end", {"m": [{"b": ["1.5e-3"]}]}),
        (b"m: < b: true > m { }", {"m": [{"b": ["true"]}, {}]}),
        (b"m [{ b: 1 }, { b: 2 }]", {"m": [{"b": ["1"]}, {"b": ["2"]}]}),
        (b"[type.example/x.Y] { a: 1 } a: 2", {"a": ["2"]}),
        (rb"c: '\x1' d { e: '\xf' } a: 1", {"a": ["1"]}),
    ],
)
def test_texts(text: bytes, read: object) -> None:
    assert read_text(text, WANTED) == read


@pytest.mark.parametrize(
    "text",
    [
        b"a: 1 }", b"m { b: 1", b"m { b: 1 >", b"a:", b"a: [1", b": 1", b"a: 'x", b"a: '\\q\\x'", b"\xff",
        b"[x", b"'a': 1", b"m {" * (MAX_DEPTH + 2), b"a { b: 1 }",
    ],
)  # fmt: skip
def test_damaged_texts(text: bytes) -> None:
    with pytest.raises(TextError):
        read_text(text, WANTED)


@pytest.mark.parametrize(
    "text", [b"a{}" * 101, b"[x]{}" * 61, b"b:" + b'"" ' * 300, b"a:" + b'"" ' * 300, b"a:[" + b"1," * 150]
)
def test_the_number_of_tokens_is_limited(text: bytes) -> None:
    with pytest.raises(TextError, match="more than 300"):
        read_text(text, {"a": None} if text.startswith(b"a:") else {"a": {}}, max_tokens=300)


@pytest.mark.parametrize("value", [b"x" * 4_000_000, rb"\000" * 1_000_000], ids=["plain", "escaped"])
def test_a_long_constant_takes_little_memory(value: bytes) -> None:
    """The matcher keeps no state for each character. The process is measured: Python does not count it."""
    program = (
        "import resource, sys\n"
        "from serval_serving.models.textproto import read_text\n"
        "data = sys.stdin.buffer.read()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "assert read_text(data, {}) == {}\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        input=b'c: "' + value + b'"',
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert int(ran.stdout) < 64 * 1024, "KiB"


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="am b1:{}<>[],;'\"\\#/\n", max_size=40))
def test_any_text(text: str) -> None:
    with suppress(TextError):
        read_text(text.encode(), WANTED)


TEXT = b"""
saved_model_schema_version: 1
meta_graphs {
  meta_info_def { stripped_op_list { op { name: "Add" } } tags: "serve" }
  graph_def { node { name: "x" attr { key: "shape" value { shape { dim { size: -1 } } } } } }
  signature_def { key: "__saved_model_init_op" value { } }
  signature_def {
    key: "serving_default"
    value {
      inputs {
        key: "x" value { name: "x:0" dtype: DT_FLOAT tensor_shape { dim { size: -1 } dim { size: 3 } } }
      }
      inputs {
        key: "r" value { dtype: 9 composite_tensor { type_spec { type_spec_class: RAGGED_TENSOR_SPEC } } }
      }
      inputs { key: "s" value { dtype: DT_FLOAT coo_sparse { values_tensor_name: "v" } } }
      outputs { key: "y" value { name: "y:0" dtype: DT_HALF tensor_shape { unknown_rank: true } } }
      method_name: "tensorflow/serving/predict"
    }
  }
  signature_def { key: "plain" value { inputs { key: "x" value { name: "x:0" dtype: DT_INT64 } } } }
}
"""


def test_a_saved_model_as_text() -> None:
    model = parse_saved_model_text(TEXT)
    assert model.tags == ("serve",)
    assert list(model.signatures) == ["plain", "serving_default"]
    default = model.signatures["serving_default"]
    assert default.method == "tensorflow/serving/predict"
    assert dict(default.inputs) == {
        "r": TensorInfo("", "DT_INT64", (), "ragged tensor"),
        "s": TensorInfo("", "DT_FLOAT", (), "sparse tensor"),
        "x": TensorInfo("x:0", "DT_FLOAT", (-1, 3)),
    }
    assert dict(default.outputs) == {"y": TensorInfo("y:0", "DT_HALF", None)}


@pytest.mark.parametrize(
    "text",
    [b"", b"meta_graphs: 1", b"meta_graphs { meta_info_def: 'x' }", TEXT.replace(b"size: 3", b"size: x")],
)
def test_no_saved_model_as_text(text: bytes) -> None:
    with pytest.raises(ModelInvalid):
        parse_saved_model_text(text)


def test_text_and_bytes_are_read_alike() -> None:
    message = text_format.Parse(TEXT.decode(), stubs().saved_model.SavedModel())
    assert parse_saved_model(message.SerializeToString()) == parse_saved_model_text(TEXT)
