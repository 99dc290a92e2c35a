"""What Predict answers, by the official stubs, from a live server of the model `zoo`."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest

from serval_serving.wire import messages
from serval_serving.wire.tensors import to_array
from unit.serving.server.grpc_calls import Predict, floats, signatures

INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("typed", [True, False])
def test_replies_are_typed_whatever_the_request_was(predict: Predict, typed: bool) -> None:
    reply = predict({"x": floats(1, 2, 5)}, typed=typed)
    assert list(reply.outputs["y"].float_val) == [2.5, 3.0, 4.5]
    assert reply.outputs["y"].tensor_content == b""
    assert [dim.size for dim in reply.outputs["y"].tensor_shape.dim] == [3]


def test_the_reply_names_model_version_and_signature(predict: Predict) -> None:
    spec = predict({"x": floats(1)}).model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("zoo", 7, "half_plus_two")


def test_no_signature_name_means_serving_default(predict: Predict) -> None:
    reply = predict({"images": np.array([b"abcd", b""])}, signature="")
    assert reply.model_spec.signature_name == "serving_default"
    assert list(reply.outputs["classes"].int64_val) == [4, 0]
    assert list(reply.outputs["probabilities"].float_val) == [4.0, 2.0, 1.0, 0.0, 0.0, 0.0]


def test_a_call_without_a_deadline_is_served(predict: Predict) -> None:
    assert list(predict({"x": floats(2)}, seconds=None).outputs["y"].float_val) == [3.0]


def test_an_exact_version_is_served(predict: Predict) -> None:
    assert predict({"x": floats(1)}, version=7).model_spec.version.value == 7


def test_one_value_fills_the_shape(predict: Predict) -> None:
    tensor = messages.TensorProto(dtype=1, float_val=[4.0])
    tensor.tensor_shape.dim.add(size=3)
    assert list(predict({"x": tensor}).outputs["y"].float_val) == [4.0, 4.0, 4.0]


def test_a_scalar_goes_in_and_comes_out(predict: Predict) -> None:
    reply = predict({"x": np.float32(2)}, signature="scalar")
    assert list(reply.outputs["y"].float_val) == [3.0]
    assert not reply.outputs["y"].tensor_shape.dim


def test_an_empty_batch_is_served(predict: Predict) -> None:
    reply = predict({"x": floats()})
    assert [dim.size for dim in reply.outputs["y"].tensor_shape.dim] == [0]


def test_all_outputs_come_without_a_filter_and_only_those_of_it(predict: Predict) -> None:
    pair = {"a": floats(3), "b": floats(1)}
    assert set(predict(pair, signature="add").outputs) == {"sum", "difference"}
    reply = predict(pair, signature="add", outputs=("difference",))
    assert {name: list(output.float_val) for name, output in reply.outputs.items()} == {"difference": [2.0]}


NUMBERS = ("half", "float", "double", "bool", "complex64", "int8", "int16", "int32", "int64")
UNSIGNED = ("uint8", "uint16", "uint32", "uint64")


@pytest.mark.parametrize("name", NUMBERS + UNSIGNED)
def test_every_type_goes_through(predict: Predict, name: str) -> None:
    dtype = {"half": "float16", "float": "float32", "double": "float64"}.get(name, name)
    array = np.array([[0, 1], [3, 120]]).astype(dtype)
    tensor = messages.TensorProto.FromString(
        predict({"x": array}, signature=f"echo_{name}").outputs["y"].SerializeToString()
    )
    back = to_array(tensor)
    assert back.dtype == array.dtype
    assert back.tolist() == array.tolist()
    assert tensor.tensor_content == b""


def test_bfloat16_goes_through_as_its_bits(predict: Predict) -> None:
    tensor = messages.TensorProto(dtype=14, half_val=[0x3F80, 0x4000])
    tensor.tensor_shape.dim.add(size=2)
    assert list(predict({"x": tensor}, signature="echo_bfloat16").outputs["y"].half_val) == [0x3F80, 0x4000]


def test_strings_go_through(predict: Predict) -> None:
    array = np.array([[b"\0\xff", b""]], dtype=object)
    reply = predict({"x": array}, signature="echo_string")
    assert list(reply.outputs["y"].string_val) == [b"\0\xff", b""]


def test_a_request_of_16_megabytes_is_taken(predict: Predict) -> None:
    reply = predict({"images": np.array([b"x" * 2**24], dtype=object)}, signature="serving_default")
    assert list(reply.outputs["classes"].int64_val) == [2**24]


# Requests of Azure's clients (no model spec, names of tensors).


@pytest.mark.parametrize("name", [None, ""])
def test_the_only_model_answers_requests_that_name_none(predict: Predict, name: str | None) -> None:
    reply = predict({"images": np.array([b"abc"])}, signature="", name=name)
    assert reply.model_spec.name == "zoo"
    assert list(reply.outputs["classes"].int64_val) == [3]


def test_inputs_may_be_named_by_their_tensor_and_outputs_then_have_both_names(
    predict: Predict, service: Any
) -> None:
    signature = signatures(service)["serving_default"]
    tensor = signature.inputs["images"].name
    reply = predict({tensor: np.array([b"abc"])}, signature="", name=None)
    expected = {"classes", "probabilities"} | {info.name for info in signature.outputs.values()}
    assert set(reply.outputs) == expected
    filtered = predict({tensor: np.array([b"abc"])}, signature="", outputs=("probabilities",))
    assert set(filtered.outputs) == {"probabilities"}
    by_name = signature.outputs["probabilities"].name
    assert set(predict({"images": np.array([b"abc"])}, signature="", outputs=(by_name,)).outputs) == {by_name}
