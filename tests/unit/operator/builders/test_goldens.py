"""Whole manifests, as YAML files to read and to compare.

After a change that is meant, write them anew and read the difference:
``SERVAL_WRITE_GOLDENS=1 pytest tests/unit/operator/builders``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from serval_operator.api.views import parse_model
from serval_operator.builders.deployment import deployment
from serval_operator.builders.service import headless_service, service
from support import gen
from unit.operator.builders.cases import CASES
from unit.operator.configuration import resolved

pytestmark = pytest.mark.unit

FOLDER = Path(__file__).parent / "golden"
WRITE = "SERVAL_WRITE_GOLDENS"


def check(name: str, *manifests: dict[str, Any]) -> None:
    """Compare with a golden; with `WRITE` in the environment, write it."""
    path = FOLDER / f"{name}.yaml"
    plain = json.loads(json.dumps(manifests))  # apart, so that YAML needs no anchors
    if os.environ.get(WRITE):
        path.write_text(yaml.safe_dump_all(plain, sort_keys=False, width=110), encoding="utf-8")
    golden = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    assert plain == golden


@pytest.mark.parametrize("name", CASES)
def test_deployment(name: str) -> None:
    check(name, deployment(parse_model(gen.model()), resolved(**CASES[name])))


def test_services() -> None:
    model = parse_model(gen.model())
    check("services", service(model), headless_service(model))


def test_no_golden_is_left_over() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == {*CASES, "services"}
