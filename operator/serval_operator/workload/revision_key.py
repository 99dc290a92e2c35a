"""The key of a revision: a digest of exactly those values of a spec that shape the pods.

A key must survive upgrades. Three rules follow:

- It is computed from the spec and not from the rendered template, so that a newer operator, which may render
  the same spec differently, restarts no model. The operator's configuration (images, architectures, profiles)
  is not part of it either.
- A field that is not set, or set to its default, leaves no trace. A field that a later CRD adds, or fills in
  with a default when an object is next written, changes no key. A default that is named here can therefore
  never change; a field whose default may change counts as soon as it is set.
- It is computed from the values, grouped under the paths of the fields in the first schema. A field that
  moves to another place in the spec, or is renamed, keeps its path in the keys, by an entry in `_FORMS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from serval_operator.api.blocks.runtime import EnvVar, Resources
from serval_operator.api.blocks.source import ConfigMapKey, SecretRef
from serval_operator.api.naming import digest
from serval_operator.api.schema import Block, Field, Items, Nested, fields_of

_FORMS: Mapping[type[Block], Callable[[Any], Any]] = {
    ConfigMapKey: lambda one: [one.name, one.key],
    EnvVar: lambda one: [one.name, one.value],
    SecretRef: lambda one: one.name,
    # Quantities as texts: 2 and "2" ask for the same.
    Resources: lambda one: _set({"requests": _texts(one.requests), "limits": _texts(one.limits)}),
}
"""Blocks that keys contain in another form than by the names of their fields."""
_SHAPERS: dict[type[Block], Callable[[Any], Any]] = {}
"""Functions that were made for the shapes of blocks."""


def revision_key(spec: Block, *, fronted: bool = False) -> str:
    """Key of a spec's revision: ten hexadecimal digits.

    Parameters
    ----------
    fronted:
        Whether a front stands before the runtime's server.
    """
    return key_of(shape(spec), fronted=fronted)


def key_of(values: Mapping[str, Any], *, fronted: bool = False) -> str:
    """Key of a revision, from the `shape` of its spec; see `revision_key`."""
    # The only field of `rollout` that counts has a place of its own in keys.
    shaped = {name: value for name, value in values.items() if name != "rollout"}
    front = {"front": True} if fronted else {}
    return digest({"shape": shaped, **front, **values.get("rollout", {})})


def shape(block: Block) -> Any:
    """Return the values of a block that shape the pods, as JSON.

    `Description.shapes_pods` says which fields these are, and `Description.no_trace` which of their values
    are left out.
    """
    kind = type(block)
    shaper = _SHAPERS.get(kind) or _SHAPERS.setdefault(kind, _shaper(kind))
    return shaper(block)


def _shaper(block: type[Block]) -> Callable[[Any], Any]:
    """Return the function for the shape of a block."""
    if block in _FORMS:
        return _FORMS[block]
    fields = [
        (
            one.name,
            one.attribute,
            one.about.no_trace if one.required else (one.default, *one.about.no_trace),
            _form(one),
        )
        for one in fields_of(block)
        if one.about.shapes_pods
    ]

    def shaped(value: Any) -> dict[str, Any]:
        found = {}
        for name, attribute, no_trace, form in fields:
            one = getattr(value, attribute)
            if one in no_trace:
                continue
            written = form(one) if form else one
            if written or written == 0:
                found[name] = written
        return found

    return shaped


def _form(field: Field) -> Callable[[Any], Any] | None:
    """Return the function that turns the value of a field into JSON; None where the value is JSON."""
    match field.about:
        case Nested(block=block):
            return _shaper(block)
        case Items(item=Nested(block=block), verbatim=verbatim):
            item = _written(block) if verbatim else _shaper(block)
            return lambda items: [item(one) for one in items]
        case Items():
            return list
        case _:
            return None


def _written(block: type[Block]) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Return the function for an item that is kept as it is written: it drops what leaves no trace."""
    no_trace = {one.name: one.about.no_trace for one in fields_of(block)}

    def written(item: Mapping[str, Any]) -> dict[str, Any]:
        return _set({name: value for name, value in item.items() if value not in no_trace.get(name, ())})

    return written


def _texts(quantities: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(amount) for name, amount in quantities.items()}


def _set(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields that are set. The number 0 and false are too; an empty text, list or map is not."""
    return {name: value for name, value in fields.items() if value or value == 0}
