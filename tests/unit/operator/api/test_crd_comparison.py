"""Which fields a cluster's schema lacks."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from serval_operator.api.crd_comparison import missing_fields, served_schema
from serval_operator.registry import KINDS

pytestmark = pytest.mark.unit


def block(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


TEXT = {"type": "string"}
LIST = {"type": "array", "items": block(name=TEXT, port=TEXT)}
MAP = {"type": "object", "additionalProperties": block(size=TEXT)}
FREE = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


@pytest.mark.parametrize(
    ("ours", "served", "missing"),
    [
        (block(spec=block(a=TEXT)), block(spec=block(a=TEXT)), ()),
        (block(spec=block(a=TEXT)), block(spec=block(a=TEXT, later=TEXT)), ()),
        (block(spec=block(a=TEXT, b=TEXT)), block(spec=block(a=TEXT)), ("spec.b",)),
        (block(spec=block(b=block(c=TEXT))), block(spec=block(a=TEXT)), ("spec.b",)),
        (block(spec=block(b=block(c=TEXT))), block(spec=block(b=block())), ("spec.b.c",)),
        (block(spec=block(b=block(c=TEXT))), block(spec=block(b={"type": "object"})), ("spec.b.c",)),
        (block(spec=block(b=block(c=TEXT))), block(spec=block(b=FREE)), ()),
        (block(spec=block(l=LIST)), block(spec=block(l=LIST)), ()),
        (
            block(spec=block(l=LIST)),
            block(spec=block(l={"type": "array", "items": block(name=TEXT)})),
            ("spec.l[].port",),
        ),
        (
            block(spec=block(m=MAP)),
            block(spec=block(m={"type": "object", "additionalProperties": block()})),
            ("spec.m.*.size",),
        ),
        (block(status=block(z=TEXT), spec=block(a=TEXT)), block(), ("spec", "status")),
        (block(metadata=TEXT, kind=TEXT, apiVersion=TEXT, spec=block()), block(spec=block()), ()),
        (block(spec=block(a=TEXT)), {}, ("spec",)),
        (block(spec=block(a=TEXT)), {"properties": "odd"}, ("spec",)),
    ],
)
def test_missing_fields(ours: dict[str, Any], served: dict[str, Any], missing: tuple[str, ...]) -> None:
    assert missing_fields(ours, served) == missing


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.resource.kind)
def test_a_kind_lacks_nothing_of_its_own_schema_and_every_removed_field_is_named(kind: Any) -> None:
    ours = kind.crd.schema()
    assert missing_fields(ours, ours) == ()
    for part in ("spec", "status"):
        for name in ours["properties"][part]["properties"]:
            older = copy.deepcopy(ours)
            del older["properties"][part]["properties"][name]
            assert missing_fields(ours, older) == (f"{part}.{name}",)


def test_the_schema_of_a_kind_is_found_by_its_kind_not_by_its_name() -> None:
    mine = {
        "x-kubernetes-group-version-kind": [{"group": "g", "version": "v1", "kind": "K"}],
        "type": "object",
    }
    schemas = {"odd": "text", "list": {"x-kubernetes-group-version-kind": None}, "any.name": mine}
    assert served_schema(schemas, "g", "v1", "K") is mine
    assert served_schema(schemas, "g", "v2", "K") is None
    assert served_schema({}, "g", "v1", "K") is None
