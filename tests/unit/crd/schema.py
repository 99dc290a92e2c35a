"""Where the CRD lies, and a walk over its schema."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
CRD_FILE = ROOT / "crds" / "serval.dev_modeldeployments.yaml"
Schema = dict[str, Any]


def walk(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Every schema below this one, with its path; list items end in ``[]``, map values in ``{}``."""
    for name, child in schema.get("properties", {}).items():
        yield f"{path}.{name}", child
        yield from walk(child, f"{path}.{name}")
    for suffix, key in (("[]", "items"), ("{}", "additionalProperties")):
        if key in schema:
            yield path + suffix, schema[key]
            yield from walk(schema[key], path + suffix)
