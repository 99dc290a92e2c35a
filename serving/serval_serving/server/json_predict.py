"""Predict requests and replies as JSON: the row format (`instances`) and the columnar one (`inputs`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from serval_serving.engines.base import DEFAULT_SIGNATURE, Signature, TensorSpec
from serval_serving.server import json_values
from serval_serving.server.json_tensors import Check, RowError, to_array
from serval_serving.server.json_values import never
from serval_serving.wire.status import StatusError, invalid

SIGNATURE_NAME = "signature_name"
INSTANCES = "instances"
INPUTS = "inputs"
PREDICTIONS = "predictions"
OUTPUTS = "outputs"

_ONE_OF = f"Not formatted correctly expecting only one of '{INPUTS}' or '{INSTANCES}' keys to exist "


def signature_name(document: Mapping[str, Any]) -> str:
    """Read which signature a request names; empty where it names none.

    Raises
    ------
    StatusError
        INVALID_ARGUMENT: the name is no string.
    """
    name = document.get(SIGNATURE_NAME, "")
    if not isinstance(name, str):
        raise invalid(
            f"JSON Value: {json_values.quoted(document)} not formatted correctly. "
            f"'{SIGNATURE_NAME}' key must be a string value."
        )
    return name


def find_signature(signatures: Mapping[str, Signature], name: str) -> Signature:
    """Find a signature; the words for a missing one differ from those of gRPC.

    Raises
    ------
    StatusError
        INVALID_ARGUMENT: the model has none of that name, or one without inputs.
    """
    wanted = name or DEFAULT_SIGNATURE
    found = signatures.get(wanted)
    if found is None:
        raise invalid(f'Serving signature name: "{wanted}" not found in signature def')
    if not found.inputs:
        raise invalid(f"Failed to get input map for signature: {name or 'DEFAULT'}")
    return found


def read_inputs(
    document: Mapping[str, Any], signature: Signature, check: Check = never
) -> tuple[dict[str, np.ndarray], bool]:
    """Read a request's inputs; the answer also says whether they came in rows.

    `check` looks at the deadline.

    Raises
    ------
    StatusError
        INVALID_ARGUMENT: the request is malformed, or a value is not of its input's type.
    """
    if INSTANCES in document and INPUTS in document:
        raise invalid(f"JSON Value: {json_values.quoted(document)} {_ONE_OF}")
    if INSTANCES in document:
        return _rows(document, signature.inputs, check), True
    if INPUTS in document:
        return _columns(document[INPUTS], signature.inputs, check), False
    raise invalid(f"Missing '{INPUTS}' or '{INSTANCES}' key")


def write_reply(outputs: Mapping[str, np.ndarray], *, rows: bool) -> bytes:
    """Write outputs as `{"predictions": ...}` in rows, or as `{"outputs": ...}`.

    Raises
    ------
    StatusError
        INVALID_ARGUMENT: an output has no JSON form, or outputs in rows differ in their first dimension.
    """
    if rows:
        _check_batches(outputs)
    values = {name: json_values.writable(name, array) for name, array in outputs.items()}
    dump = json_values.dump
    if not all(json_values.finite(value) for value in values.values()):
        values = {name: json_values.plain(value) for name, value in values.items()}
        dump = json_values.dump_exact
    key = PREDICTIONS if rows else OUTPUTS
    if len(values) == 1:
        return dump({key: next(iter(values.values()))})
    if not rows:
        return dump({key: values})
    count = len(next(iter(outputs.values())))
    return dump({key: [{name: value[row] for name, value in values.items()} for row in range(count)]})


def _check_batches(outputs: Mapping[str, np.ndarray]) -> None:
    """Check that all outputs have as many rows."""
    expected: int | None = None
    for name, array in outputs.items():
        if array.ndim == 0:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if expected is not None and array.shape[0] != expected:
            raise invalid(
                f"Tensor name: {name} has inconsistent batch size: {array.shape[0]} expecting: {expected}"
            )
        expected = array.shape[0]


def _columns(value: Any, specs: Mapping[str, TensorSpec], check: Check) -> dict[str, np.ndarray]:
    """Read `inputs`: one value or list, or an object of them by name."""
    if not isinstance(value, dict) or json_values.is_b64(value):
        if len(specs) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required "
                "as per tensorinfo_map"
            )
        alias, spec = next(iter(specs.items()))
        return {alias: to_array(value, spec.dtype, check)}
    arrays = {}
    for alias, spec in specs.items():
        if alias not in value:
            raise invalid(f"Missing named input: {alias} in 'inputs' object.")
        arrays[alias] = to_array(value[alias], spec.dtype, check)
    return arrays


def _rows(
    document: Mapping[str, Any], specs: Mapping[str, TensorSpec], check: Check
) -> dict[str, np.ndarray]:
    """Read `instances`: a list of values, or of objects by name."""
    rows = document[INSTANCES]
    if not isinstance(rows, list):
        quoted = json_values.quoted(document)
        raise invalid(f"JSON Value: {quoted} Expecting '{INSTANCES}' to be an list/array")
    if not rows:
        raise invalid(f"JSON Value: {json_values.quoted(document)} No values in '{INSTANCES}' array")
    if not isinstance(rows[0], dict) and len(specs) > 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as "
            "per tensorinfo_map"
        )
    objects = _is_object(rows[0])
    for index, row in enumerate(rows):
        _check_row(index, row, specs, objects=objects)
    if objects:
        return {
            alias: _stack([row[alias] for row in rows], alias, spec, check) for alias, spec in specs.items()
        }
    alias, spec = next(iter(specs.items()))
    return {alias: _stack(rows, "", spec, check)}


def _is_object(value: Any) -> bool:
    """Whether a row names its inputs."""
    return isinstance(value, dict) and not json_values.is_b64(value)


def _check_row(index: int, row: Any, specs: Mapping[str, TensorSpec], *, objects: bool) -> None:
    """Check that a row is of the first one's kind and names every input."""
    if objects and not _is_object(row):
        raise invalid(f"Expecting object but got list at item {index} of input list")
    if not objects and _is_object(row):
        raise invalid(f"Expecting value/list but got object at item {index} of input list")
    if objects and row.keys() != specs.keys():
        raise _keys_error(index, row, specs)


def _keys_error(index: int, row: Mapping[str, Any], specs: Mapping[str, TensorSpec]) -> StatusError:
    """Make the error for a row that does not name exactly the inputs of the signature."""
    where = f"Failed to process element: {index}"
    for name in row:
        if name not in specs:
            unknown = invalid(f"JSON object: does not have named input: {name}")
            return invalid(f"{where} key: {name} of '{INSTANCES}' list. Error: {unknown}")
    return invalid(
        f"{where} of '{INSTANCES}' list. JSON object: {json_values.quoted(row)} keys must be equal to: "
        f"{','.join(specs)}"
    )


def _stack(values: list[Any], alias: str, spec: TensorSpec, check: Check) -> np.ndarray:
    """Make one array of the values of all rows; alias is empty where rows do not name inputs."""
    try:
        return to_array(values, spec.dtype, check)
    except RowError as error:
        raise _row_error(values, error, alias, spec, check) or error from error


def _row_error(
    values: list[Any], error: RowError, alias: str, spec: TensorSpec, check: Check
) -> StatusError | None:
    """Make the error for the first row at fault: it is wrong by itself, or not as the first row is."""
    named = f" key: {alias}" if alias else ""
    prefix = f"Failed to process element: {error.row}{named} of '{INSTANCES}' list. Error: "
    try:
        shape = to_array(values[error.row], spec.dtype, check).shape
    except StatusError as own:
        return StatusError(own.code, prefix + str(own))
    first = to_array(values[0], spec.dtype, check).shape
    if shape == first:
        return None
    wrong = invalid(f"Expecting shape {_spelled(first)} but got: {_spelled(shape)}")
    if np.prod(shape) != np.prod(first):
        wrong = invalid(f"Expecting tensor size: {int(np.prod(first))} but got: {int(np.prod(shape))}")
    return invalid(prefix + str(wrong))


def _spelled(shape: tuple[int, ...]) -> str:
    return "[" + ",".join(map(str, shape)) + "]"
