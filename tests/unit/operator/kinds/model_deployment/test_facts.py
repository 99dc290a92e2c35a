"""Facts about the pods of a revision: recorded with it, read back, or derived from the template."""

from __future__ import annotations

from typing import Any

import pytest

from serval_operator.api.facts import Facts, parse_facts
from serval_operator.api.placement import Placement
from serval_operator.api.snapshots import parse_owner
from serval_operator.workload.manifests.deployment import pod_template
from serval_operator.workload.manifests.revision import facts_of
from support import gen
from unit.operator.configuration import resolved
from unit.operator.kinds.model_deployment.manifests.cases import FRONT_CASES

pytestmark = pytest.mark.unit

MODEL = parse_owner(gen.model())
GPU: dict[str, Any] = {"accelerator": {"profile": "nvidia-gpu", "count": 2}}


@pytest.mark.parametrize("spec", [{}, GPU], ids=["cpu", "gpu"])
def test_are_read_as_they_were_recorded(spec: dict[str, Any]) -> None:
    facts = facts_of(resolved(**spec))
    assert parse_facts(facts.as_json(), {}) == facts


def test_that_are_unknown_are_ignored() -> None:
    facts = facts_of(resolved(**GPU))
    assert parse_facts({**facts.as_json(), "colour": "red"}, {}) == facts


@pytest.mark.parametrize("missing", ["runtime", "image", "capabilities", "placement"])
def test_that_are_missing_are_derived_from_the_template(missing: str) -> None:
    plan = resolved(**GPU)
    facts, template = facts_of(plan), pod_template(MODEL, plan, "key")
    recorded = facts.as_json()
    del recorded[missing]
    found = parse_facts(recorded, template)
    assert found.image == facts.image
    assert found.placement.resource_name == "nvidia.com/gpu"
    assert found.placement.count == 2
    assert found.placement.node_selector == facts.placement.node_selector
    assert list(found.placement.tolerations) == list(facts.placement.tolerations)
    assert found.runtime == ("" if missing == "runtime" else facts.runtime)
    assert found.capabilities == (frozenset() if missing == "capabilities" else facts.capabilities)


def test_a_front_shows_in_the_template() -> None:
    plan = resolved(front=True, **next(iter(FRONT_CASES.values())))
    found = parse_facts({}, pod_template(MODEL, plan, "key"))
    assert found.capabilities == {"raw-score", "concurrency-limit"}


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"runtime": 1, "image": None, "capabilities": "all", "placement": []},
        {"placement": {"count": "2", "nodeSelector": [], "tolerations": {}}},
    ],
)
def test_of_odd_types_do_not_fail(facts: dict[str, Any]) -> None:
    found = parse_facts(facts, {"spec": {"containers": "none"}})
    assert found.placement == Placement()
    assert isinstance(found, Facts)
