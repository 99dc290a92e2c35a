"""docs/api.md against the schema. Its table of reasons is generated: see unit/tools/test_generate.py."""

from __future__ import annotations

import pytest
import yaml

from serval_operator import constants
from unit.crd.schema import CRD_FILE, ROOT, walk

DOCUMENT = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
SUMMED_UP = (".status.conditions[]", ".status.placement[]", ".status.lastFailure", ".status.model.inputs[]")
"""Fields below these are told in the words of their parent."""


def leaves() -> list[str]:
    schema = yaml.safe_load(CRD_FILE.read_text(encoding="utf-8"))
    (version,) = schema["spec"]["versions"]
    fields = list(walk(version["schema"]["openAPIV3Schema"]))
    return [
        path.removeprefix(".")
        for path, child in fields
        if path.startswith((".spec.", ".status."))
        and "properties" not in child
        and "properties" not in child.get("items", {})
        and not path.endswith(("[]", "{}"))
        and not path.replace("outputs", "inputs").startswith(SUMMED_UP)
    ]


@pytest.mark.parametrize("field", leaves())
def test_every_field_is_told(field: str) -> None:
    assert f"`{field}`" in DOCUMENT


def test_every_reserved_domain_is_told() -> None:
    assert [one for one in constants.RESERVED_METADATA_DOMAINS if one not in DOCUMENT] == []
