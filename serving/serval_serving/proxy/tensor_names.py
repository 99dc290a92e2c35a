"""Names of tensors, such as `images:0`, where the upstream server knows a signature's aliases only.

Clients of Azure's accelerated models name tensors. They get what `serval_serving.server.binding` gives them:
all outputs under both their names, or those of the output filter under the names in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from serval_serving.engines.base import Signature
from serval_serving.proxy.message_split import (
    INPUTS,
    OUTPUT_FILTER,
    OUTPUTS,
    UNREADABLE,
    Part,
    entry,
    read,
    written,
)


class Renamed(NamedTuple):
    """A request by aliases.

    Attributes
    ----------
    request:
        Its bytes.
    outputs:
        Names that the reply must have each output under, by alias; those that are not here keep theirs.
    """

    request: bytes
    outputs: Mapping[str, Sequence[str]]


def names_tensors(parts: Iterable[Part]) -> bool:
    """Whether a request may name tensors: their names have a colon, and hardly any alias has."""
    return any(":" in part.name for part in parts)


def rename(data: bytes, parts: Sequence[Part], signature: Signature) -> Renamed:
    """Put aliases in the place of tensors' names in a request of Predict."""
    inputs = {spec.name: alias for alias, spec in signature.inputs.items()}
    given = {part.name for part in parts if part.number == INPUTS}
    wanted = [part.name for part in parts if part.number == OUTPUT_FILTER]
    view = memoryview(data)
    pieces: list[bytes | memoryview] = []
    by_tensor = False
    for part in parts:
        if part.number == INPUTS and part.rest is not None:
            alias = inputs.get(part.name, part.name)
            if part.name in signature.inputs or alias in given:
                alias = part.name
            by_tensor = by_tensor or alias != part.name
            pieces += entry(INPUTS, alias, view[part.rest.start : part.rest.end])
        elif part.number != OUTPUT_FILTER:
            pieces += written(part.number, view[part.place.start : part.place.end])
    if wanted:
        outputs, aliases = _filtered(signature, wanted)
        for alias in aliases:
            pieces += written(OUTPUT_FILTER, alias.encode())
    else:
        outputs = _both(signature) if by_tensor else {}
    return Renamed(b"".join(pieces), outputs)


def restore(reply: bytes, outputs: Mapping[str, Sequence[str]]) -> bytes:
    """Put outputs under the names that the caller expects; a reply that cannot be read stays as it is."""
    if not outputs:
        return reply
    try:
        parts = read(reply, entries=OUTPUTS)
    except UNREADABLE:
        return reply
    view = memoryview(reply)
    pieces: list[bytes | memoryview] = []
    for part in parts:
        if part.number == OUTPUTS and part.rest is not None:
            for name in outputs.get(part.name, (part.name,)):
                pieces += entry(OUTPUTS, name, view[part.rest.start : part.rest.end])
        else:
            pieces += written(part.number, view[part.place.start : part.place.end])
    return b"".join(pieces)


def _both(signature: Signature) -> dict[str, list[str]]:
    """Give every output both its names."""
    outputs: dict[str, list[str]] = {}
    for alias, spec in signature.outputs.items():
        named = spec.name and spec.name not in signature.outputs
        outputs[alias] = [alias, spec.name] if named else [alias]
    return outputs


def _filtered(signature: Signature, wanted: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Turn an output filter into aliases; names that are unknown or stand twice are left to be refused."""
    by_tensor = {spec.name: alias for alias, spec in signature.outputs.items()}
    outputs: dict[str, list[str]] = {}
    aliases: list[str] = []
    for name in wanted:
        alias = name if name in signature.outputs else by_tensor.get(name, name)
        names = outputs.setdefault(alias, [])
        if not names or name in names:
            aliases.append(alias)
        names.append(name)
    return outputs, aliases
