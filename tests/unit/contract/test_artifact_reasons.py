from __future__ import annotations

import re
from pathlib import Path

from serval_contract import artifact_reasons
from serval_contract.artifact_reasons import ARTIFACT_REASONS
from serval_contract.stage_report import REASON

DOCS = (Path(__file__).resolve().parents[3] / "docs" / "artifacts.md").read_text(encoding="utf-8")


def test_the_docs_list_the_reasons() -> None:
    rows = re.findall(r"^\| ([A-Z][A-Za-z]+) \|", DOCS, flags=re.MULTILINE)
    assert sorted(set(rows)) == sorted(ARTIFACT_REASONS)


def test_every_reason_can_be_reported_and_is_in_the_set() -> None:
    named = {
        value for name, value in vars(artifact_reasons).items() if name.isupper() and isinstance(value, str)
    }
    assert named == ARTIFACT_REASONS
    assert all(REASON.fullmatch(reason) for reason in ARTIFACT_REASONS)
