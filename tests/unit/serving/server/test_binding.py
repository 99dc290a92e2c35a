from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest

from serval_serving.engines.base import Signature, TensorSpec, merge_shapes, signature_of
from serval_serving.engines.tensorflow import fits
from serval_serving.server.binding import (
    Output,
    bind_inputs,
    by_alias,
    find_signature,
    select_outputs,
)
from serval_serving.wire import messages
from serval_serving.wire.dtypes import DataType
from serval_serving.wire.status import StatusError
from serval_serving.wire.tensors import from_array

FLOAT = DataType.DT_FLOAT


def signature(defaults: dict[str, np.ndarray] | None = None) -> Signature:
    return Signature(
        "s",
        {"a": TensorSpec("a:0", FLOAT, (None,)), "b": TensorSpec("b:0", FLOAT, (None, 2))},
        {"y": TensorSpec("y:0", FLOAT, None), "z": TensorSpec("z:0", FLOAT, None)},
        defaults or {},
    )


A = np.zeros(3, np.float32)
B = np.zeros((1, 2), np.float32)


def bind(given: dict[str, Any], made: Signature) -> dict[str, np.ndarray]:
    return bind_inputs(made, given, lambda value: value)


def test_defaults_stand_in_for_inputs_that_are_missing() -> None:
    made = signature({"b": B})
    assert bind({"a": A}, made)["b"] is B
    other = np.ones((1, 2), np.float32)
    assert bind({"a": A, "b": other}, made)["b"] is other


def test_an_input_without_default_is_still_required() -> None:
    with pytest.raises(StatusError) as caught:
        bind({"b": B}, signature({"b": B}))
    assert caught.value.message == (
        "Signature input alias: a(feed name: a:0) not found in request and no default value provided. "
        "Inputs expected to be in the request {b}, or default input alias set: b"
    )


def test_a_wrong_name_beside_defaults() -> None:
    with pytest.raises(StatusError) as caught:
        bind({"a": A, "q": A}, signature({"b": B}))
    assert caught.value.message == (
        "Inputs contains invalid name. Used request inputs: a, request input: a,q"
    )


def test_a_default_is_read_from_the_definition() -> None:
    definition = messages.SignatureDef()
    definition.inputs["x"].name = "x:0"
    definition.defaults["x"].CopyFrom(from_array(np.array([1.5], np.float32)))
    assert signature_of("s", definition).defaults["x"].tolist() == [1.5]


def test_shapes_of_a_definition() -> None:
    definition = messages.SignatureDef()
    definition.inputs["unsaid"].name = "a:0"
    definition.inputs["unknown"].tensor_shape.unknown_rank = True
    definition.inputs["scalar"].tensor_shape.SetInParent()
    for size in (-1, 3):
        definition.inputs["batch"].tensor_shape.dim.add(size=size)
    shapes = {alias: spec.shape for alias, spec in signature_of("s", definition).inputs.items()}
    assert shapes == {"unsaid": None, "unknown": None, "scalar": (), "batch": (None, 3)}


@pytest.mark.parametrize(
    ("first", "second", "merged"),
    [
        (None, (1, None), (1, None)),
        ((1, None), None, (1, None)),
        ((None, 2), (3, None), (3, 2)),
        ((4,), (5,), (4,)),
        ((None,), (1, 2), (None,)),
    ],
)
def test_shapes_are_merged(first: Any, second: Any, merged: Any) -> None:
    assert merge_shapes(first, second) == merged


@pytest.mark.parametrize(
    ("shape", "actual", "fitting"),
    [
        ((None, 2), (5, 2), True),
        ((None, 2), (5, 3), False),
        ((None, 2), (2,), False),
        ((), (), True),
        ((), (1,), False),
        (None, (), False),
    ],
)
def test_which_tensors_fit_a_shape(shape: Any, actual: tuple[int, ...], fitting: bool) -> None:
    assert fits(shape, actual) is fitting


def test_shapes_are_left_to_the_engine() -> None:
    given = {"a": np.zeros((), np.float32), "b": np.zeros((5, 5, 5), np.float32)}
    assert bind(given, signature()) == given


def test_inputs_named_by_tensor() -> None:
    renamed, by_tensor = by_alias(signature(), {"a:0": 1, "b": 2})
    assert (renamed, by_tensor) == ({"a": 1, "b": 2}, True)
    assert by_alias(signature(), {"a": 1, "b": 2}) == ({"a": 1, "b": 2}, False)


def test_an_input_under_both_its_names_is_one_too_many() -> None:
    renamed, _ = by_alias(signature(), {"a": 1, "a:0": 2, "b": 3})
    assert renamed == {"a": 1, "a:0": 2, "b": 3}


def test_outputs_of_requests_that_name_tensors() -> None:
    assert select_outputs(signature(), [], by_tensor=True) == [
        Output("y", "y"),
        Output("z", "z"),
        Output("y:0", "y"),
        Output("z:0", "z"),
    ]
    assert select_outputs(signature(), ["z:0", "z"]) == [Output("z:0", "z"), Output("z", "z")]


def test_the_default_signature_and_a_missing_one() -> None:
    made = {"serving_default": signature()}
    assert find_signature(made, "") is made["serving_default"]
    with pytest.raises(StatusError) as caught:
        find_signature(made, "q")
    assert caught.value.code is grpc.StatusCode.FAILED_PRECONDITION
