"""What a front changes of a message, compared with what the protobuf library makes of both."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serval_serving.engines.base import Signature, TensorSpec
from serval_serving.proxy.message_split import (
    INPUTS,
    OUTPUT_FILTER,
    UNREADABLE,
    WireError,
    read,
    spec_of,
    with_name,
)
from serval_serving.proxy.tensor_names import names_tensors, rename, restore
from serval_serving.wire import messages

NAMES = st.text(max_size=200)
FLOAT = 1


def signature(inputs: dict[str, str], outputs: dict[str, str]) -> Signature:
    def specs(names: dict[str, str]) -> dict[str, TensorSpec]:
        return {alias: TensorSpec(name, FLOAT, None) for alias, name in names.items()}

    return Signature("serving_default", specs(inputs), specs(outputs), {})


SIGNATURE = signature({"a": "in/a:0", "b": "in/b:0"}, {"y": "out/y:0", "z": ""})


def predict(inputs: tuple[str, ...], outputs: tuple[str, ...] = (), **spec: Any) -> Any:
    made = messages.PredictRequest(output_filter=outputs)
    for index, name in enumerate(inputs):
        made.inputs[name].float_val.extend([float(index)] * 300)
    if spec:
        made.model_spec.CopyFrom(messages.ModelSpec(**spec))
    return made


def taken(request: Any) -> tuple[bytes, Any]:
    data = request.SerializeToString()
    return data, read(data, entries=INPUTS, texts=OUTPUT_FILTER)


@given(inputs=st.lists(NAMES, max_size=4, unique=True), outputs=st.lists(NAMES, max_size=4), name=NAMES)
def test_names_are_read_and_a_name_is_added(inputs: list[str], outputs: list[str], name: str) -> None:
    request = predict(tuple(inputs), tuple(outputs), signature_name="s")
    data, parts = taken(request)
    assert {part.name for part in parts if part.number == INPUTS} == set(inputs)
    assert [part.name for part in parts if part.number == OUTPUT_FILTER] == outputs
    assert spec_of(data, parts) == request.model_spec
    request.model_spec.name = name
    assert messages.PredictRequest.FromString(with_name(data, name)) == request


def test_a_spec_in_pieces_is_merged() -> None:
    data = with_name(predict((), signature_name="s").SerializeToString(), "m")
    assert spec_of(data, read(data)) == messages.ModelSpec(name="m", signature_name="s")
    assert spec_of(b"", []) is None


@given(data=st.binary(max_size=60))
def test_bytes_that_are_no_message_are_told(data: bytes) -> None:
    """They are refused with an error that is expected, or are a message for the library too."""
    try:
        parts = read(data, entries=INPUTS, texts=OUTPUT_FILTER)
        spec_of(data, parts)
    except UNREADABLE:
        return
    messages.ModelSpec.FromString(b"")
    assert all(part.place.end <= len(data) for part in parts)


def test_an_entry_without_a_key_in_front_is_left_alone() -> None:
    with pytest.raises(WireError):
        read(b"\x12\x02\x12\x00", entries=INPUTS)


def test_only_a_colon_makes_the_name_of_a_tensor() -> None:
    for request, names in ((predict(("a",), ("y",)), False), (predict(("in/a:0",)), True)):
        assert names_tensors(taken(request)[1]) is names
    assert names_tensors(taken(predict(("a",), ("out/y:0",)))[1])


def test_inputs_get_their_aliases_and_outputs_both_names() -> None:
    request = predict(("in/a:0", "b"), name="m")
    renamed = rename(*taken(request), SIGNATURE)
    expected = predict(("a", "b"), name="m")
    expected.inputs["a"].CopyFrom(request.inputs["in/a:0"])
    expected.inputs["b"].CopyFrom(request.inputs["b"])
    assert messages.PredictRequest.FromString(renamed.request) == expected
    assert renamed.outputs == {"y": ["y", "out/y:0"], "z": ["z"]}


@pytest.mark.parametrize("inputs", [("a", "in/a:0"), ("a", "b"), ("x:0",)])
def test_names_that_are_aliases_or_nothing_stay(inputs: tuple[str, ...]) -> None:
    request = predict(inputs)
    renamed = rename(*taken(request), SIGNATURE)
    assert messages.PredictRequest.FromString(renamed.request) == request
    assert renamed.outputs == {}


@pytest.mark.parametrize(
    ("wanted", "sent", "outputs"),
    [
        (("out/y:0",), ["y"], {"y": ["out/y:0"]}),
        (("y", "out/y:0", "z"), ["y", "z"], {"y": ["y", "out/y:0"], "z": ["z"]}),
        (("y", "y"), ["y", "y"], {"y": ["y", "y"]}),
        (("q:0",), ["q:0"], {"q:0": ["q:0"]}),
    ],
)
def test_filters(wanted: tuple[str, ...], sent: list[str], outputs: dict[str, list[str]]) -> None:
    renamed = rename(*taken(predict(("a", "b"), wanted)), SIGNATURE)
    assert list(messages.PredictRequest.FromString(renamed.request).output_filter) == sent
    assert renamed.outputs == outputs


def test_replies_get_the_names_back() -> None:
    reply = messages.PredictResponse(model_spec=messages.ModelSpec(name="m"))
    reply.outputs["y"].float_val.extend([1.5] * 300)
    reply.outputs["z"].float_val.append(2.5)
    data = reply.SerializeToString()
    assert restore(data, {}) == data
    found = messages.PredictResponse.FromString(restore(data, {"y": ["y", "out/y:0"]}))
    assert found.model_spec == reply.model_spec
    assert {name: found.outputs[name] for name in found.outputs} == {
        "y": reply.outputs["y"],
        "out/y:0": reply.outputs["y"],
        "z": reply.outputs["z"],
    }
    assert restore(b"\xff\xff", {"y": ["y"]}) == b"\xff\xff"
