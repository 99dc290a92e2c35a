"""Another writer that changes a child again and again: it is named, and the pace is bounded."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from serval_operator.api.resources import DEPLOYMENTS, SERVICES
from serval_operator.reconcile.contests import CALM, LONGEST_PAUSE, ROUNDS
from support import gen
from unit.operator.kinds.model_deployment.world import PLACE, World, served

pytestmark = pytest.mark.unit

TOLD = (
    "Deployment/digits: `kube-controller-manager` changes spec.replicas again and again; the operator puts "
    "it back after pauses"
)


def scaled(obj: gen.Object) -> None:
    """An autoscaler sets the number of the Deployment, and owns it from then on."""
    obj["spec"]["replicas"] = 5
    fields = obj["metadata"]["managedFields"]
    for one in fields:
        if one["manager"] == "serval-operator":
            one["fieldsV1"]["f:spec"].pop("f:replicas", None)
    fields.append(
        {
            "manager": "kube-controller-manager",
            "operation": "Update",
            "subresource": "scale",
            "fieldsV1": {"f:spec": {"f:replicas": {}}},
        }
    )


def annotated(obj: gen.Object) -> None:
    """A writer with fields of its own only."""
    annotations = obj["metadata"]["annotations"]
    annotations["theirs"] = str(int(annotations.get("theirs", "0")) + 1)


async def fight(world: World, change: Callable[[gen.Object], None], rounds: int, every: float) -> int:
    """Applies of the Deployment while another writer changes it so often, at this pace."""
    before = len(world.api.calls)
    for _ in range(rounds):
        world.seconds += every
        world.api.edit(DEPLOYMENTS, *PLACE, change, manager="hpa")
        await world.reconcile()
    calls = world.api.calls[before:]
    return sum((one.verb, one.resource) == ("apply", DEPLOYMENTS) for one in calls)


async def test_a_few_changes_are_put_back_at_once() -> None:
    world = await served()
    assert await fight(world, scaled, ROUNDS, 1.0) == ROUNDS
    assert world.stored_deployment["spec"]["replicas"] == 1
    assert world.told()[1] == "Serving"


async def test_the_other_writer_is_named_and_the_pace_is_bounded() -> None:
    world = await served()
    assert await fight(world, scaled, 600, 1.0) <= ROUNDS + 12
    assert world.told() == ("False", "ResourceContested", TOLD)
    assert world.told("Available")[0] == "True"
    assert ("Warning", "ResourceContested") in world.events
    assert await fight(world, scaled, 20, LONGEST_PAUSE + 1) == 20


async def test_a_change_of_the_spec_does_not_wait() -> None:
    world = await served()
    await fight(world, scaled, 20, 1.0)
    world.edit_spec(suspend=True)
    await world.reconcile()
    assert world.stored_deployment["spec"]["replicas"] == 0


async def test_it_ends_when_the_other_writer_does() -> None:
    world = await served()
    await fight(world, scaled, 10, 4.0)
    assert world.told()[1] == "ResourceContested"
    for _ in range(20):
        world.seconds += 10.0
        await world.reconcile()
    assert world.told()[:2] == ("True", "Serving")
    assert world.stored_deployment["spec"]["replicas"] == 1
    assert await world.calls() == []


async def test_fields_of_their_own_are_no_contest() -> None:
    world = await served()
    await fight(world, annotated, 50, 1.0)
    assert world.told()[1] == "Serving"


async def test_changes_that_are_rare_are_none() -> None:
    world = await served()
    assert await fight(world, scaled, 20, CALM + 1) == 20
    assert world.told()[1] == "Serving"


async def test_a_child_that_is_deleted_often_is_made_again() -> None:
    world = await served()
    for _ in range(20):
        world.api.remove(SERVICES, *PLACE)
        await world.reconcile()
        assert world.stored(SERVICES)
    assert world.told()[1] == "Serving"
