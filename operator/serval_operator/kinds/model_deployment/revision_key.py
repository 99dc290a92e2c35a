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
from serval_operator.kinds.model_deployment.spec import ModelSpec

_FORMS: Mapping[type[Block], Callable[[Any], Any]] = {
    ConfigMapKey: lambda one: [one.name, one.key],
    EnvVar: lambda one: [one.name, one.value],
    SecretRef: lambda one: one.name,
    # Quantities as texts: 2 and "2" ask for the same.
    Resources: lambda one: _set(requests=_texts(one.requests), limits=_texts(one.limits)),
}
"""Blocks that keys contain in another form than by the names of their fields."""


def revision_key(spec: ModelSpec, *, fronted: bool = False) -> str:
    """Key of a spec's revision: ten hexadecimal digits.

    Parameters
    ----------
    fronted:
        Whether a front stands before the runtime's server.
    """
    values = shape(spec)
    # Its only field that counts has a place of its own in keys.
    rollout = values.pop("rollout", {})
    return digest(_set(shape=values, front=True if fronted else None, **rollout))


def shape(block: Block) -> Any:
    """Return the values of a block that shape the pods, as JSON.

    `Description.shapes_pods` says which fields these are, and `Description.no_trace` which of their values
    are left out.
    """
    form = _FORMS.get(type(block))
    if form:
        return form(block)
    return _set(
        **{
            one.name: _value(one, getattr(block, one.attribute))
            for one in fields_of(type(block))
            if one.about.shapes_pods
        }
    )


def _value(one: Field, value: Any) -> Any:
    """The value of a field, or None where it leaves no trace."""
    if (value == one.default and not one.required) or value in one.about.no_trace:
        return None
    if isinstance(value, Block):
        return shape(value)
    if isinstance(one.about, Items) and isinstance(one.about.item, Nested):
        block = one.about.item.block
        return [shape(item) if isinstance(item, Block) else _written(block, item) for item in value]
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value


def _written(block: type[Block], item: Mapping[str, Any]) -> dict[str, Any]:
    """An item that is kept as it is written, without what leaves no trace."""
    dropped = {one.name: one.about.no_trace for one in fields_of(block)}
    return _set(**{name: value for name, value in item.items() if value not in dropped.get(name, ())})


def _texts(quantities: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(amount) for name, amount in quantities.items()}


def _set(**fields: Any) -> dict[str, Any]:
    """Fields that are set. The number 0 is set too; maps and lists that users fill count as a whole."""
    return {name: value for name, value in fields.items() if value is not None and value not in ("", [], {})}
