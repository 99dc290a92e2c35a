"""docs/api.md against the schema: the generated tables cover all fields."""

from __future__ import annotations

import pytest
import yaml

from serval_operator import constants
from unit.crd.schema import CRD_FILE, ROOT, walk

DOCUMENT = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")


def fields() -> list[str]:
    (version,) = yaml.safe_load(CRD_FILE.read_text(encoding="utf-8"))["spec"]["versions"]
    return [
        path.removeprefix(".")
        for path, _ in walk(version["schema"]["openAPIV3Schema"])
        if path.startswith((".spec.", ".status.")) and not path.endswith(("[]", "{}"))
    ]


@pytest.mark.parametrize("field", fields())
def test_every_field_has_one_row(field: str) -> None:
    assert DOCUMENT.count(f"| `{field}` |") == 1


def test_every_reserved_domain_is_documented() -> None:
    assert [one for one in constants.RESERVED_METADATA_DOMAINS if one not in DOCUMENT] == []
