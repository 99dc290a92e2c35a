"""Whole manifests of AcceleratedModels, as YAML files to read and to compare.

After a change that is meant, write them anew and read the difference:
``SERVAL_WRITE_GOLDENS=1 pytest tests/unit/operator/kinds/accelerated_model``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from unit.operator.kinds.accelerated_model.cases import CASES, CLAIM
from unit.operator.kinds.accelerated_model.world import World, configured, converted

pytestmark = pytest.mark.unit

FOLDER = Path(__file__).parent / "golden"
WRITE = "SERVAL_WRITE_GOLDENS"


def check(name: str, *manifests: dict[str, Any]) -> None:
    """Compare with a golden; with `WRITE` in the environment, write it."""
    path = FOLDER / f"{name}.yaml"
    plain = json.loads(json.dumps(manifests))
    if os.environ.get(WRITE):
        path.write_text(yaml.safe_dump_all(plain, sort_keys=False, width=110), encoding="utf-8")
    assert plain == list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def applied(manifest: dict[str, Any]) -> dict[str, Any]:
    """A manifest as it was sent."""
    meta = {key: value for key, value in manifest["metadata"].items() if key in SENT}
    return {**{key: value for key, value in manifest.items() if key != "status"}, "metadata": meta}


SENT = ("name", "namespace", "labels", "annotations", "ownerReferences")


@pytest.mark.parametrize("name", CASES)
def test_job(name: str) -> None:
    world = World(CLAIM if name == "claim" else configured(), **CASES[name])
    world.look()
    check(f"job-{name}", applied(world.job))


def test_everything_after_the_job() -> None:
    world = converted(World())
    (record,) = world.revisions.values()
    check("served", *(applied(one) for one in world.children.values()), applied(record))


def test_no_golden_is_left_over() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == {"served", *(f"job-{name}" for name in CASES)}
