"""Binds a request to a signature: which inputs go where, whether they fit, which outputs come back.

Pure functions. The order of the checks and the texts are TensorFlow Serving's (`predict_util.cc` and
`saved_model/util.cc`). Shapes are left to the engine, as there: what differs from the signature may be fine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import grpc
import numpy as np

from serval_serving.engines.base import DEFAULT_SIGNATURE, Signature, TensorSpec
from serval_serving.wire.dtypes import DataType, dtype_name, dtype_of
from serval_serving.wire.errors import TensorError
from serval_serving.wire.status import StatusError, invalid

_T = TypeVar("_T")


class Output(NamedTuple):
    """One output of a reply: the key that it goes under, and its alias in the signature."""

    key: str
    alias: str


def find_signature(signatures: Mapping[str, Signature], name: str) -> Signature:
    """Find the signature of a Predict call; no name means `serving_default`.

    Raises
    ------
    StatusError
        FAILED_PRECONDITION: the model has none of that name.
    """
    wanted = name or DEFAULT_SIGNATURE
    found = signatures.get(wanted)
    if found is None:
        raise StatusError(grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{wanted}" not found.')
    return found


def by_alias(signature: Signature, given: Mapping[str, _T]) -> tuple[dict[str, _T], bool]:
    """Rename inputs that came under a tensor's name, such as `images:0`, to their alias.

    Clients of Azure's accelerated models name tensors. The answer also says whether any input did so.
    """
    aliases = {spec.name: alias for alias, spec in signature.inputs.items()}
    renamed: dict[str, _T] = {}
    by_tensor = False
    for name, value in given.items():
        alias = aliases.get(name, name)
        if name in signature.inputs or alias in given:
            alias = name
        by_tensor = by_tensor or alias != name
        renamed[alias] = value
    return renamed, by_tensor


def bind_inputs(
    signature: Signature, given: Mapping[str, _T], read: Callable[[_T], np.ndarray]
) -> dict[str, np.ndarray]:
    """Give every input of a signature its array.

    Parameters
    ----------
    signature:
        The signature.
    given:
        The request's inputs by alias.
    read:
        Turns one of them into an array; may raise TensorError.

    Raises
    ------
    StatusError
        INVALID_ARGUMENT: too many, too few or wrongly named inputs, or one that does not fit.
    """
    _check_count(signature, given)
    arrays: dict[str, np.ndarray] = {}
    used = []
    for alias, spec in signature.inputs.items():
        if alias in given:
            used.append(alias)
            try:
                arrays[alias] = read(given[alias])
            except TensorError as error:
                raise invalid(f"tensor parsing error: {alias}") from error
        elif alias in signature.defaults:
            arrays[alias] = signature.defaults[alias]
        else:
            raise invalid(
                f"Signature input alias: {alias}(feed name: {spec.name}) not found in request and no "
                f"default value provided. Inputs expected to be in the request {{{_joined(given)}}}, or "
                f"default input alias set: {_joined(signature.defaults)}"
            )
    if len(used) != len(given):
        raise invalid(
            f"Inputs contains invalid name. Used request inputs: {_joined(used)}, "
            f"request input: {_joined(given)}"
        )
    for alias, array in arrays.items():
        check_type(alias, signature.inputs[alias], array)
    return arrays


def check_type(alias: str, spec: TensorSpec, array: np.ndarray) -> None:
    """Check that an array has the type of an input.

    Raises
    ------
    StatusError
        INVALID_ARGUMENT: it has not.
    """
    actual = dtype_of(array)
    if spec.dtype not in {actual, DataType.DT_INVALID}:
        raise invalid(
            f"Type mismatch: actual {dtype_name(actual)} vs. expect {dtype_name(spec.dtype)} "
            f"for input: {alias}"
        )


def select_outputs(signature: Signature, wanted: Sequence[str], *, by_tensor: bool = False) -> list[Output]:
    """Choose the outputs of a reply.

    Parameters
    ----------
    signature:
        The signature.
    wanted:
        The request's output filter: aliases or names of tensors. Empty for all.
    by_tensor:
        Whether the inputs came under names of tensors: then all outputs come under both their names, since
        such clients look for either.

    Raises
    ------
    StatusError
        INVALID_ARGUMENT: an unknown or repeated name.
    """
    if not wanted:
        outputs = [Output(alias, alias) for alias in signature.outputs]
        if by_tensor:
            names = {spec.name: alias for alias, spec in signature.outputs.items() if spec.name}
            outputs += [Output(name, alias) for name, alias in names.items() if name not in signature.outputs]
        return outputs
    aliases = {spec.name: alias for alias, spec in signature.outputs.items()}
    aliases.update({alias: alias for alias in signature.outputs})
    chosen: dict[str, Output] = {}
    for name in wanted:
        if name not in aliases:
            raise invalid(
                f"output tensor alias not found in signature: {name} Outputs expected to be in the set "
                f"{{{_joined(signature.outputs)}}}."
            )
        if name in chosen:
            raise invalid(f"duplicate output tensor alias: {name}")
        chosen[name] = Output(name, aliases[name])
    return list(chosen.values())


def _check_count(signature: Signature, given: Mapping[str, object]) -> None:
    """Check the number of inputs; fewer are fine where the signature has defaults."""
    count, wanted = len(given), len(signature.inputs)
    if count == wanted or (count < wanted and signature.defaults):
        return
    extra = given.keys() - signature.inputs.keys()
    missing = signature.inputs.keys() - given.keys()
    raise invalid(
        f"input size does not match signature: {count}!={wanted} len({{{_joined(given)}}}) != "
        f"len({{{_joined(signature.inputs)}}}). Sent extra: {{{_joined(extra)}}}. "
        f"Missing but required: {{{_joined(missing)}}}."
    )


def _joined(names: Iterable[str]) -> str:
    return ",".join(sorted(names))
