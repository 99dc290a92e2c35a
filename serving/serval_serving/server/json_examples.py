"""Classify and Regress requests and replies as JSON (`json_tensor.cc`): features are guessed from values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np

from serval_serving.server import json_tensors, json_values
from serval_serving.server.examples import Classified
from serval_serving.wire import messages
from serval_serving.wire.dtypes import DataType
from serval_serving.wire.status import StatusError, invalid

CONTEXT: Final = "context"
EXAMPLES: Final = "examples"
RESULTS: Final = "results"

_INT64: Final = np.iinfo(np.int64)
_UINT64_MAX: Final = 2**64 - 1
_KIND_NAMES: Final = {
    "bytes_list": "bytes",
    "float_list": "float",
    "int64_list": "int64",
}


def read_input(document: Mapping[str, Any]) -> messages.Input:
    """Read the examples of a request, and the context that all of them share.

    Raises
    ------
    StatusError
        INVALID_ARGUMENT: there are none, or a feature cannot be made of a value.
    """
    given = messages.Input()
    listed: Any = given.example_list
    if CONTEXT in document:
        listed = given.example_list_with_context
        _fill(given.example_list_with_context.context, document[CONTEXT])
    for example in _examples(document):
        _fill(listed.examples.add(), example)
    return given


def write_classes(result: Classified) -> bytes:
    """Write `{"results": [[[label, score], ...], ...]}`."""
    if result.scores is not None:
        result = replace(result, scores=_short(result.scores))
    return _write(result.rows(), result.scores)


def write_values(values: np.ndarray) -> bytes:
    """Write `{"results": [value, ...]}`."""
    return _write(json_values.plain(values), values)


def _examples(document: Mapping[str, Any]) -> list[Any]:
    """Find the list of examples."""
    examples = document.get(EXAMPLES)
    if isinstance(examples, list) and examples:
        return examples
    if EXAMPLES not in document:
        wrong = f"When method is classify, key '{EXAMPLES}' is expected and was not found"
    elif not isinstance(examples, list):
        wrong = f"Expecting '{EXAMPLES}' value to be an list/array"
    else:
        wrong = f"'{EXAMPLES}' value is an empty array"
    raise invalid(f"JSON Value: {json_values.quoted(document)} {wrong}")


def _write(results: Any, numbers: np.ndarray | None) -> bytes:
    """Write the reply; NaN and infinities need a writer of their own."""
    exact = numbers is not None and not json_values.finite(numbers)
    return (json_values.dump_exact if exact else json_values.dump)({RESULTS: results})


def _short(scores: np.ndarray) -> np.ndarray:
    """Widen scores so that they are spelled with the digits of single precision."""
    return np.array(json_values.plain(scores), dtype=np.float64).reshape(scores.shape)


def _fill(example: messages.Example, value: Any) -> None:
    """Fill an example from a JSON object of features."""
    if not isinstance(value, dict):
        raise invalid(f"Example must be JSON object but got JSON {json_values.type_name(value)}")
    for name, content in value.items():
        try:
            feature = example.features.feature[name]
        except ValueError as error:
            raise invalid(f"Feature name {name!r} is no text") from error
        for item in content if isinstance(content, list) else [content]:
            _add(feature, name, item)


def _add(feature: messages.Feature, name: str, item: Any) -> None:
    """Add a value to a feature, whose first value says of what kind all are."""
    kind, value = _typed(name, item)
    actual = feature.WhichOneof("kind")
    if actual not in {None, kind}:
        raise invalid(
            f"Unexpected element type in feature: {name} expecting type: {_KIND_NAMES[str(actual)]}"
        )
    getattr(feature, kind).value.append(value)


def _typed(name: str, item: Any) -> tuple[str, bytes | float | int]:
    """Say which kind of feature a JSON value belongs to, and what it is there."""
    if isinstance(item, bool):
        return "int64_list", int(item)
    if isinstance(item, str):
        return "bytes_list", json_values.text_bytes(item)
    if json_values.is_b64(item):
        return "bytes_list", json_values.decoded(item)
    if isinstance(item, int) and _INT64.min <= item <= _INT64.max:
        return "int64_list", item
    if isinstance(item, int) and 0 <= item <= _UINT64_MAX:
        raise invalid(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
    if isinstance(item, (float, int)):
        # Integers of more than 64 bits are floating numbers for the parser of TensorFlow Serving.
        return "float_list", float(json_tensors.to_array(item, DataType.DT_FLOAT))
    raise _unexpected(name, item)


def _unexpected(name: str, item: Any) -> StatusError:
    """Make the error for a value that no feature can hold."""
    kind = json_values.type_name(item)
    return invalid(f"Feature: {name} has element with unexpected JSON type: {kind}")
