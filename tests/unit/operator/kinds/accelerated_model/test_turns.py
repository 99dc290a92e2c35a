"""What an AcceleratedModel asks of the queue for devices, before and while it is converted."""

from __future__ import annotations

from typing import Any

import pytest

from serval_operator.api.naming import Key
from serval_operator.api.resources import ACCELERATED_MODELS, DEPLOYMENTS
from serval_operator.cluster.priority_reader import PriorityReader
from serval_operator.kinds.accelerated_model import KIND
from serval_operator.reconcile.contest import Contest
from serval_operator.runtime.access_review import Access
from serval_operator.runtime.cache import Cache
from support import gen
from support.fakes import FakeKubeApi
from unit.operator.kinds.accelerated_model.world import (
    CONFIGURED,
    FEATURIZER,
    NAME,
    RESOURCE,
    UID,
    accelerated,
)

pytestmark = pytest.mark.unit

KEY = Key("AcceleratedModel", gen.NAMESPACE, NAME)


def contest_of(*, replicas: int | None, **status: Any) -> Contest:
    """A contest that saw one object, and its Deployment of so many replicas; None for no Deployment."""
    api, cache = FakeKubeApi(), Cache((ACCELERATED_MODELS,))
    made = accelerated({"observedGeneration": 1, **status}, 2, **FEATURIZER)
    cache.store(ACCELERATED_MODELS).observe("ADDED", made)
    if replicas is not None:
        deployment = gen.deployment(name=NAME, owner=UID)
        deployment["metadata"]["labels"] |= gen.labels(NAME, KEY.kind)
        deployment["metadata"]["ownerReferences"][0]["kind"] = KEY.kind
        deployment["spec"]["replicas"] = replicas
        cache.store(DEPLOYMENTS).observe("ADDED", deployment)
    contest = Contest(
        cache,
        {KEY.kind: KIND.claim},
        CONFIGURED,
        PriorityReader(api, lambda: Access(priority_classes=True), lambda: 0.0),
        lambda _: None,
        lambda: gen.moment(0),
        frozenset({KEY.kind}),
    )
    contest.touch(KEY)
    return contest


async def wanted(contest: Contest) -> list[int]:
    """Pods that each object wants."""
    return [one.claim.wanted for one in (await contest.rivals(RESOURCE)).rivals]


async def test_one_that_was_never_converted_waits_for_no_device() -> None:
    contest = contest_of(replicas=None)
    assert not contest.outlook(KEY).contended
    assert await wanted(contest) == [0]


@pytest.mark.parametrize(
    "status",
    [
        {"conversion": {"artifact": "oci://registry.example/x@sha256:0"}},
        {"jobs": [{"name": "convert", "inputs": "0123456789", "phase": "Succeeded"}]},
    ],
    ids=["artifact", "job"],
)
async def test_one_that_is_converted_waits_for_its_first_device(status: Any) -> None:
    assert await wanted(contest_of(replicas=None, **status)) == [1]


async def test_one_that_waits_keeps_its_place_while_its_newest_spec_is_converted() -> None:
    """Else its Deployment got pods that the queue did not grant, and lost them again, in turns."""
    contest = contest_of(replicas=0)
    assert contest.outlook(KEY).contended
    assert await wanted(contest) == [1]
