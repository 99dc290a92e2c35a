"""docs/api.md against the schema and the reasons of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from serval_contract.reasons import FETCH_REASONS
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


def reasons() -> set[str]:
    """Reasons that constants.py lists under its headings "reasons: ...", and those of the fetcher."""
    source = Path(constants.__file__).read_text(encoding="utf-8")
    sections = re.findall(r"^# --- reasons: .*?(?=^# ---|\Z)", source, flags=re.MULTILINE | re.DOTALL)
    listed = re.findall(r'^[A-Z_]+: Final = "([A-Za-z]+)"', "".join(sections), flags=re.MULTILINE)
    return {*listed, *FETCH_REASONS}


@pytest.mark.parametrize("field", leaves())
def test_every_field_is_told(field: str) -> None:
    assert f"`{field}`" in DOCUMENT


def test_every_reason_is_told_and_none_is_made_up() -> None:
    table = DOCUMENT.partition("### Reasons")[2]
    told = set(re.findall(r"^\| `([A-Za-z]+)` \|", table, flags=re.MULTILINE))
    assert len(reasons()) > 25
    assert told == reasons()


def test_every_reserved_domain_is_told() -> None:
    assert [one for one in constants.RESERVED_METADATA_DOMAINS if one not in DOCUMENT] == []
