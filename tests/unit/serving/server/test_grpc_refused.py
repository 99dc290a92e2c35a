"""Each row of the error table of Predict, by the official stubs, from a live server of the model `zoo`."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest

from serval_serving.wire import messages, rpc
from serval_serving.wire.status import MAX_GRPC_MESSAGE
from unit.serving.server.grpc_calls import LIMIT, Predict, floats, in_flight, refused, signatures
from unit.serving.server.processes import Server, wait_until

INVALID = grpc.StatusCode.INVALID_ARGUMENT


def test_unknown_model(predict: Predict) -> None:
    answer = refused(lambda: predict({"x": floats(1)}, name="nope"))
    assert answer == (grpc.StatusCode.NOT_FOUND, "Servable not found for request: Latest(nope)")


@pytest.mark.parametrize("version", [0, 9])
def test_unknown_version_zero_included(predict: Predict, version: int) -> None:
    answer = refused(lambda: predict({"x": floats(1)}, version=version))
    assert answer == (
        grpc.StatusCode.NOT_FOUND,
        f"Servable not found for request: Specific(zoo, {version})",
    )


def test_unknown_model_with_a_version(predict: Predict) -> None:
    answer = refused(lambda: predict({"x": floats(1)}, name="nope", version=3))
    assert answer == (grpc.StatusCode.NOT_FOUND, "Servable not found for request: Specific(nope, 3)")


def test_unknown_label(predict: Predict) -> None:
    answer = refused(lambda: predict({"x": floats(1)}, label="canary"))
    assert answer == (INVALID, "Unrecognized servable version label: canary")


def test_missing_signature(predict: Predict) -> None:
    answer = refused(lambda: predict({"x": floats(1)}, signature="nope"))
    assert answer == (grpc.StatusCode.FAILED_PRECONDITION, 'Serving signature key "nope" not found.')


def test_too_few_inputs(predict: Predict) -> None:
    answer = refused(lambda: predict({"a": floats(1)}, signature="add"))
    sizes = "input size does not match signature: 1!=2 len({a}) != len({a,b})."
    assert answer == (INVALID, f"{sizes} Sent extra: {{}}. Missing but required: {{b}}.")


def test_too_many_inputs(predict: Predict) -> None:
    answer = refused(lambda: predict({"x": floats(1), "q": floats(1)}))
    sizes = "input size does not match signature: 2!=1 len({q,x}) != len({x})."
    assert answer == (INVALID, f"{sizes} Sent extra: {{q}}. Missing but required: {{}}.")


def test_no_inputs(predict: Predict) -> None:
    code, text = refused(lambda: predict({}))
    assert code is INVALID
    assert text.startswith("input size does not match signature: 0!=1 len({}) != len({x}).")


def test_wrong_input_name(predict: Predict, service: Any) -> None:
    feed = signatures(service)["half_plus_two"].inputs["x"].name
    answer = refused(lambda: predict({"zz": floats(1)}))
    missing = (
        f"Signature input alias: x(feed name: {feed}) not found in request and no default value provided."
    )
    expected = " Inputs expected to be in the request {zz}, or default input alias set: "
    assert answer == (INVALID, missing + expected)


BAD_TENSORS = {
    "no dtype": messages.TensorProto(float_val=[1.0]),
    "short content": messages.TensorProto(
        dtype=1,
        tensor_content=b"123",
        tensor_shape=messages.TensorShapeProto(dim=[messages.TensorShapeProto.Dim(size=1)]),
    ),
    "negative dimension": messages.TensorProto(
        dtype=1, tensor_shape=messages.TensorShapeProto(dim=[messages.TensorShapeProto.Dim(size=-3)])
    ),
    "terabytes": messages.TensorProto(
        dtype=1,
        float_val=[1.0],
        tensor_shape=messages.TensorShapeProto(dim=[messages.TensorShapeProto.Dim(size=2**40)]),
    ),
}


@pytest.mark.parametrize("case", BAD_TENSORS)
def test_bad_tensor(predict: Predict, case: str) -> None:
    assert refused(lambda: predict({"x": BAD_TENSORS[case]})) == (INVALID, "tensor parsing error: x")


def test_unknown_output(predict: Predict) -> None:
    answer = refused(lambda: predict({"x": floats(1)}, outputs=("q",)))
    assert answer == (
        INVALID,
        "output tensor alias not found in signature: q Outputs expected to be in the set {y}.",
    )


def test_duplicate_output(predict: Predict) -> None:
    answer = refused(lambda: predict({"x": floats(1)}, outputs=("y", "y")))
    assert answer == (INVALID, "duplicate output tensor alias: y")


def test_dtype_mismatch(predict: Predict) -> None:
    code, text = refused(lambda: predict({"x": np.array([1], dtype=np.int32)}))
    assert code is INVALID
    assert text.startswith("Type mismatch: actual int32 vs. expect float")


@pytest.mark.parametrize("shape", [(8, 8, 3), (1, 1, 8, 8, 3), (8,), ()])
def test_wrong_rank_is_refused_and_ends_no_process(predict: Predict, zoo: Server, shape: Any) -> None:
    code, text = refused(lambda: predict({"images": np.zeros(shape, np.float32)}, signature="images"))
    assert code is INVALID
    assert text.startswith(f"Shape must be rank 4 but is rank {len(shape)} for ")
    assert zoo.process.poll() is None


@pytest.mark.parametrize("shape", [(1, 8, 8, 4), (1, 9, 8, 5), (2, 8, 8, 0)])
def test_wrong_dimensions_are_refused(predict: Predict, zoo: Server, shape: Any) -> None:
    code, text = refused(lambda: predict({"images": np.zeros(shape, np.float32)}, signature="images"))
    assert code is INVALID
    assert text.startswith(("Depth of input", "Number of groups"))
    assert zoo.process.poll() is None


def test_what_the_engine_refuses_is_an_invalid_argument(predict: Predict) -> None:
    code, text = refused(lambda: predict({"text": np.array([b"no number"])}, signature="parse"))
    assert code is INVALID
    assert "no number" in text


def test_words_that_quote_what_is_no_text(predict: Predict) -> None:
    code, text = refused(lambda: predict({"text": np.array([b"no \xff"], object)}, signature="parse"))
    assert code is INVALID
    assert text.startswith("StringToNumberOp could not correctly convert string: no \ufffd")


def test_inputs_that_do_not_go_together(predict: Predict, zoo: Server) -> None:
    code, _ = refused(lambda: predict({"a": floats(1, 2), "b": floats(1, 2, 3)}, signature="add"))
    assert code is INVALID
    assert zoo.process.poll() is None


def test_long_texts_are_cut(predict: Predict) -> None:
    _, text = refused(lambda: predict({"x": floats(1)}, outputs=("q" * 3000,)))
    assert text.endswith("...TRUNCATED")
    assert len(text) == MAX_GRPC_MESSAGE + len("...TRUNCATED")


def test_a_deadline_ends_the_call_and_the_work(predict: Predict, zoo: Server) -> None:
    code, _ = refused(lambda: predict({"steps": np.int32(2_000_000)}, signature="slow", seconds=0.3))
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    wait_until("the engine gave up", lambda: in_flight(zoo) == 0, 10)


def test_bytes_that_are_no_message_end_the_call_only(
    zoo: Server, zoo_channel: grpc.Channel, predict: Predict
) -> None:
    raw = zoo_channel.unary_unary(rpc.PREDICT.path)
    code, _ = refused(lambda: raw(b"\xff\xff\xff", timeout=LIMIT))
    assert code is grpc.StatusCode.INTERNAL
    predict({"x": floats(1)})
    assert "Traceback" not in zoo.log
