"""Whole manifests, as YAML files to read and to compare.

After a change that is meant, write them anew and read the difference:
``SERVAL_WRITE_GOLDENS=1 pytest tests/unit/operator/kinds/model_deployment/manifests``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from serval_operator.api.snapshots import parse_owner, parse_revision
from serval_operator.kinds.model_deployment.manifests.autoscaler import autoscaler
from serval_operator.kinds.model_deployment.manifests.disruption import disruption_budget
from serval_operator.kinds.model_deployment.manifests.pin import pin
from serval_operator.workload.manifests.revision import facts_of, revision_record
from serval_operator.workload.manifests.service import headless_service, service
from support import gen
from unit.operator.configuration import resolved
from unit.operator.kinds.model_deployment.manifests.cases import AUTOSCALERS, CASES, FRONT_CASES, IMAGE_CASES
from unit.operator.rendering import rendered

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


MODEL = parse_owner(gen.model())


@pytest.mark.parametrize("name", CASES)
def test_deployment(name: str) -> None:
    check(name, rendered(MODEL, resolved(**CASES[name])))


@pytest.mark.parametrize("name", IMAGE_CASES)
def test_deployment_with_an_image_volume(name: str) -> None:
    check(name, rendered(MODEL, resolved(image_volumes=True, **IMAGE_CASES[name])))


@pytest.mark.parametrize("name", FRONT_CASES)
def test_deployment_with_a_front(name: str) -> None:
    check(name, rendered(MODEL, resolved(front=True, **FRONT_CASES[name])))


@pytest.mark.parametrize("name", CASES)
def test_a_front_that_nobody_needs_changes_nothing(name: str) -> None:
    assert rendered(MODEL, resolved(front=True, **CASES[name])) == rendered(MODEL, resolved(**CASES[name]))


def test_services() -> None:
    check("services", service(MODEL), headless_service(MODEL))


def test_revision_and_what_goes_with_it() -> None:
    template = {"metadata": {"labels": {"team": "vision"}}, "spec": {"containers": []}}
    facts = facts_of(resolved(**CASES["gpu-profile"]))
    record = revision_record(MODEL, key="0123456789", template=template, facts=facts, number=4)
    kept = parse_revision(gen.stored(record, uid="0b5e2a53-5d36-4a3e-9a0c-000000000002"))
    check("revision", record, pin(MODEL, kept, version=3, digest=gen.DIGEST))


@pytest.mark.parametrize("name", AUTOSCALERS)
def test_autoscaler(name: str) -> None:
    made = autoscaler(MODEL, resolved(**AUTOSCALERS[name]).spec)
    assert made is not None
    check(f"autoscaler-{name}", made)


def test_disruption_budget() -> None:
    specs = ({"replicas": 2}, {"disruption": {"maxUnavailable": "25%"}})
    made = [disruption_budget(MODEL, resolved(**spec).spec) for spec in specs]
    check("disruption-budget", *(one for one in made if one))


def test_no_golden_is_left_over() -> None:
    others = {"services", "revision", "disruption-budget", *(f"autoscaler-{name}" for name in AUTOSCALERS)}
    assert {path.stem for path in FOLDER.iterdir()} == {*CASES, *IMAGE_CASES, *FRONT_CASES, *others}
