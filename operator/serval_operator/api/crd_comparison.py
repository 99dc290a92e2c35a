"""Which fields of a kind the cluster's schema lacks: whether a CRD is older than the operator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from serval_operator.api.schema import Schema
from serval_operator.api.unstructured import mapping

FREE = "x-kubernetes-preserve-unknown-fields"
_COMMON = frozenset({"apiVersion", "kind", "metadata"})
"""Fields of every object, which the API server describes itself."""


def missing_fields(ours: Schema, served: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the fields that the operator knows and a served schema lacks, as sorted paths.

    A field whose parent is lacking is not named. Fields that only the served schema has do not matter.

    Parameters
    ----------
    ours:
        ``openAPIV3Schema`` of the kind's CRD as the operator knows it.
    served:
        Schema of the kind as the API server publishes it.
    """
    known = {name: one for name, one in mapping(ours, "properties").items() if name not in _COMMON}
    return tuple(sorted(_missing({**ours, "properties": known}, served, "")))


def served_schema(
    schemas: Mapping[str, Any], group: str, version: str, kind: str
) -> Mapping[str, Any] | None:
    """Return the schema of a kind among those that OpenAPI publishes; None if there is none."""
    wanted = {"group": group, "version": version, "kind": kind}
    for schema in schemas.values():
        if isinstance(schema, Mapping) and wanted in (schema.get("x-kubernetes-group-version-kind") or ()):
            return schema
    return None


def _missing(ours: Mapping[str, Any], served: Mapping[str, Any], path: str) -> Iterator[str]:
    if served.get(FREE):
        return
    there = mapping(served, "properties")
    for name, one in mapping(ours, "properties").items():
        inner = f"{path}.{name}" if path else name
        if name not in there:
            yield inner
        else:
            yield from _missing(one, mapping(there, name), inner)
    for field, mark in (("items", "[]"), ("additionalProperties", ".*")):
        if isinstance(ours.get(field), Mapping):
            yield from _missing(ours[field], mapping(served, field), path + mark)
