"""Whole Jobs, as YAML files to read and to compare.

After an intended change, write them again and read the difference:
``SERVAL_WRITE_GOLDENS=1 pytest tests/unit/operator/jobs/test_job_manifest.py``.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from serval_operator.api.blocks.jobs import MAX_ATTEMPTS, MAX_JOB_NAME
from serval_operator.api.job_snapshots import parse_job
from serval_operator.api.naming import Key, selector
from serval_operator.api.snapshots import parse_owner
from serval_operator.jobs.job_plan import JobPlan
from serval_operator.jobs.manifest import job_manifest
from support import gen
from unit.operator.jobs.jobs_world import PLAN, TEMPLATE

pytestmark = pytest.mark.unit

FOLDER = Path(__file__).parent / "golden"
OWNER = parse_owner(gen.model())
CASES = {
    "job": (PLAN, 1),
    "job_suspended": (replace(PLAN, suspend=True, deadline_seconds=None, inputs=["b"]), 2),
}


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str) -> None:
    path = FOLDER / f"{name}.yaml"
    made = json.loads(json.dumps(job_manifest(OWNER, *CASES[name])))
    if os.environ.get("SERVAL_WRITE_GOLDENS"):
        path.write_text(yaml.safe_dump(made, sort_keys=False, width=110), encoding="utf-8")
    assert made == yaml.safe_load(path.read_text(encoding="utf-8"))


def test_the_plan_stays_as_it_was() -> None:
    before = json.dumps(TEMPLATE)
    job_manifest(OWNER, PLAN, 1)
    assert json.dumps(TEMPLATE) == before


def test_the_view_of_a_job_names_plan_inputs_and_attempt() -> None:
    view = parse_job(gen.stored(job_manifest(OWNER, replace(PLAN, suspend=True), 2)))
    assert (view.job, view.inputs, view.attempt) == ("convert", PLAN.inputs_digest, 2)
    assert (view.owner, view.owner_uid) == (OWNER.key, OWNER.uid)
    assert (view.suspended, view.finished) == (True, False)


def test_no_service_or_deployment_selects_its_pods() -> None:
    labels = job_manifest(OWNER, PLAN, 1)["spec"]["template"]["metadata"]["labels"]
    assert not selector(OWNER.key).items() <= labels.items()
    assert Key(labels["serval.dev/kind"], OWNER.namespace, labels["serval.dev/owner-name"]) == OWNER.key


@given(
    owner=st.from_regex(r"[a-z]([-a-z0-9]{0,51}[a-z0-9])?", fullmatch=True),
    name=st.from_regex(r"[a-z]([-a-z0-9]{0,18}[a-z0-9])?", fullmatch=True),
    attempt=st.integers(1, MAX_ATTEMPTS),
)
def test_names_leave_room_for_those_of_pods(owner: str, name: str, attempt: int) -> None:
    found = replace(PLAN, name=name).job_name(owner, attempt)
    assert len(f"{found}-12345") <= 63
    assert found.endswith(f"-{name}-{PLAN.inputs_digest}-{attempt}")
    assert found[0] == owner[0]


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""},
        {"name": "Convert"},
        {"name": "x" * (MAX_JOB_NAME + 1)},
        {"attempts": 0},
        {"attempts": MAX_ATTEMPTS + 1},
    ],
)
def test_a_plan_that_cannot_be(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"characters|attempts"):
        JobPlan(**{"name": "convert", "inputs": 1, "template": {}, "stages": (), **fields})
