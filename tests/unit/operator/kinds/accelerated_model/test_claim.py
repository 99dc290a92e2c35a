"""What an AcceleratedModel asks of the queue for devices, before and after its artifact is there."""

from __future__ import annotations

from typing import Any

import pytest

from serval_operator.api.snapshots import parse_owner
from serval_operator.kinds.accelerated_model.claim import claim
from unit.operator.kinds.accelerated_model.world import (
    ARTIFACT,
    CONFIGURED,
    FEATURIZER,
    RESOURCE,
    accelerated,
)

pytestmark = pytest.mark.unit

JOB = {"name": "convert", "inputs": "0123456789"}
ELSEWHERE = {"artifact": {"uri": f"oci://{ARTIFACT}"}}


@pytest.mark.parametrize(
    ("spec", "status", "prepared"),
    [
        (FEATURIZER, {}, False),
        (FEATURIZER, {"jobs": [{**JOB, "phase": "Running"}]}, False),
        (FEATURIZER, {"jobs": [{**JOB, "phase": "Failed"}]}, False),
        (FEATURIZER, {"conversion": {"stage": "convert", "percent": 30}}, False),
        (FEATURIZER, {"jobs": [{**JOB, "phase": "Succeeded"}]}, True),
        (FEATURIZER, {"conversion": {"artifact": f"oci://{ARTIFACT}"}}, True),
        (ELSEWHERE, {}, True),
    ],
)
def test_it_is_prepared_once_there_is_an_artifact(
    spec: dict[str, Any], status: dict[str, Any], prepared: bool
) -> None:
    found = claim(parse_owner(accelerated(status, **{**spec, "replicas": 2})), CONFIGURED)
    assert found is not None
    assert (found.resource, found.wanted, found.when_busy) == (RESOURCE, 2, "Wait")
    assert found.prepared is prepared


def test_one_that_is_suspended_wants_none() -> None:
    found = claim(parse_owner(accelerated({}, **ELSEWHERE, suspend=True)), CONFIGURED)
    assert found is not None
    assert found.wanted == 0


def test_its_wishes_are_those_of_the_spec() -> None:
    spec = {**ELSEWHERE, "accelerator": {"profile": "u250", "count": 1, "whenBusy": "Replace"}}
    found = claim(parse_owner(accelerated({}, **spec, scheduling={"priorityClassName": "batch"})), CONFIGURED)
    assert found is not None
    assert (found.when_busy, found.priority_class) == ("Replace", "batch")


def test_a_spec_that_cannot_be_used_asks_for_nothing() -> None:
    assert claim(parse_owner(accelerated({}, featurizer="Lenet")), CONFIGURED) is None
    assert claim(parse_owner(accelerated({}, **ELSEWHERE, accelerator={"profile": "no"})), CONFIGURED) is None
