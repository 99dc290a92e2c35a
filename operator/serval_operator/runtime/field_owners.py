"""Which other writer has taken fields of a child: pure comparison of a manifest with `managedFields`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from serval_operator.api.naming import Manifest
from serval_operator.api.unstructured import mapping, mappings
from serval_operator.constants import FIELD_MANAGER

UNNAMED = "another client"
"""A writer that removes a field owns nothing afterwards."""
_NOT_OWNED = (
    ("apiVersion",),
    ("kind",),
    ("metadata", "name"),
    ("metadata", "namespace"),
    ("metadata", "uid"),
)
"""Fields that `managedFields` does not list."""
_EMPTY: tuple[Any, ...] = ({}, [], None)
"""Values that the API server may leave out."""
_Path = tuple[str, ...]
"""Steps of ``fieldsV1``, such as ``f:spec`` and ``k:{"name":"server"}``."""


class Taken(NamedTuple):
    """Fields that an apply of ours set, and that are not ours any more.

    Parameters
    ----------
    managers:
        Field managers that own them now, or `UNNAMED`.
    fields:
        Their paths, as ``spec.replicas``.
    """

    managers: tuple[str, ...]
    fields: tuple[str, ...]


def taken(manifest: Manifest, live: Mapping[str, Any]) -> Taken | None:
    """Say which fields of a manifest other writers took; None if all that it sets is still ours.

    Parameters
    ----------
    live:
        The object as the API server returns it.
    """
    entries = [
        one
        for one in mappings(mapping(live, "metadata"), "managedFields")
        if one.get("subresource") != "status"
    ]
    ours = next(
        (one for one in entries if one.get("manager") == FIELD_MANAGER and one.get("operation") == "Apply"),
        {},
    )
    lost = [path for path in _lost(manifest, mapping(ours, "fieldsV1"), ()) if path]
    if not lost:
        return None
    managers = {
        str(one.get("manager"))
        for one in entries
        if one is not ours and any(_owns(mapping(one, "fieldsV1"), path) for path in lost)
    }
    return Taken(tuple(sorted(managers)) or (UNNAMED,), tuple(dict.fromkeys(map(_shown, lost))))


def _lost(value: Any, owned: Mapping[str, Any], path: _Path) -> Iterator[_Path]:
    """Paths of a manifest that a manager's fields do not have.

    A value that is owned as a whole, as an owner reference is, has no fields below it.
    """
    if path and not owned:
        return
    if isinstance(value, Mapping):
        for name, inner in value.items():
            step = f"f:{name}"
            if _plain((*path, step)) in _NOT_OWNED:
                continue
            if step in owned:
                yield from _lost(inner, mapping(owned, step), (*path, step))
            elif inner not in _EMPTY:
                yield (*path, step)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        keys = [step for step in owned if step.startswith("k:")]
        for item in value if keys else ():
            step = next((one for one in keys if _has(item, one)), "")
            if step:
                yield from _lost(item, mapping(owned, step), (*path, step))
            else:
                yield path


def _has(item: Any, step: str) -> bool:
    """Whether an item of a list has the key of a step. What it leaves out has the key's default."""
    key = json.loads(step.removeprefix("k:"))
    return isinstance(item, Mapping) and all(item.get(name, value) == value for name, value in key.items())


def _owns(fields: Mapping[str, Any], path: _Path) -> bool:
    for step in path:
        if step not in fields:
            return False
        fields = mapping(fields, step)
    return True


def _plain(path: _Path) -> _Path:
    return tuple(step.removeprefix("f:") for step in path if step.startswith("f:"))


def _shown(path: _Path) -> str:
    return ".".join(_plain(path))
