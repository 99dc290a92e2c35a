"""A spec that cannot be used can still stop what runs."""

from __future__ import annotations

from typing import Any

import pytest

from serval_operator.api.resources import AUTOSCALERS, DEPLOYMENTS, MODEL_DEPLOYMENTS
from support import gen
from unit.operator.kinds.model_deployment.world import KEY, World

pytestmark = pytest.mark.unit

SCALED = {
    "replicas": 2,
    "resources": {"requests": {"cpu": "1"}},
    "autoscaling": {"minReplicas": 2, "maxReplicas": 4},
}
INVALID = {"accelerator": {"profile": "moon", "count": 1}}
BARRED = {"model": {"uri": "s3://models/digits", "credentials": {"serviceAccountName": "theirs"}}}


def replicas(world: World) -> int:
    found: int = world.stored(DEPLOYMENTS)["spec"]["replicas"]
    return found


async def serving() -> World:
    world = World(**SCALED)
    await world.reconcile()
    world.put_pod("digits-1", gen.ready())
    world.put_pod("digits-2", gen.ready())
    await world.reconcile()
    assert world.told()[0] == "True"
    return world


@pytest.mark.parametrize(
    ("spec", "reason"),
    [(INVALID, "UnknownProfile"), (BARRED, "CredentialsNotFound")],
    ids=["invalid", "barred"],
)
class TestSpecThatCannotBeUsed:
    async def test_leaves_what_runs(self, spec: dict[str, Any], reason: str) -> None:
        world = await serving()
        before = world.stored(DEPLOYMENTS)
        world.edit_spec(**spec, replicas=3)
        await world.reconcile()
        assert world.stored(DEPLOYMENTS) == before
        assert world.told()[1] == reason

    @pytest.mark.parametrize("stop", [{"suspend": True}, {"replicas": 0}])
    async def test_stops_it_where_it_says_so(
        self, spec: dict[str, Any], reason: str, stop: dict[str, Any]
    ) -> None:
        world = await serving()
        template = world.stored(DEPLOYMENTS)["spec"]["template"]
        world.edit_spec(**spec, **stop)
        await world.reconcile()
        assert replicas(world) == 0
        assert world.stored(DEPLOYMENTS)["spec"]["template"] == template
        assert not world.api.stored(AUTOSCALERS, gen.NAMESPACE, gen.MODEL), "it would be scaled up again"
        assert world.told()[1] == reason
        assert not [call for call in await world.calls() if call[0] in ("apply", "delete")]

    async def test_that_was_never_used_makes_nothing(self, spec: dict[str, Any], reason: str) -> None:
        world = World(**spec, suspend=True)
        await world.reconcile()
        assert not world.api.stored(DEPLOYMENTS, gen.NAMESPACE, gen.MODEL)
        assert world.told()[1] == reason


async def test_one_whose_place_was_taken_stops_though_its_newest_spec_is_barred() -> None:
    """Else the one that took its place would wait for ever: it takes a place once."""
    world = World(accelerator={"profile": "nvidia-gpu"})
    world.put_node("gpu-0", gpu=1)
    await world.reconcile()
    world.put_pod("digits-1", gen.ready())
    world.edit_spec(**BARRED)
    await world.reconcile()
    assert replicas(world) == 1
    generation = world.api.objects(MODEL_DEPLOYMENTS)[0]["metadata"]["generation"]
    taken = {"kind": KEY.kind, "name": gen.MODEL, "uid": gen.MODEL_UID, "targetGeneration": generation}
    status = {"replacement": {**taken, "generation": 1, "replicas": 1}}
    taker = gen.model("taker", uid="taker", accelerator={"profile": "nvidia-gpu"}, status=status)
    world.api.put(MODEL_DEPLOYMENTS, taker)
    world.contest.touch(KEY._replace(name="taker"))
    await world.reconcile()
    assert replicas(world) == 0
    assert world.status["replacedBy"]["name"] == "taker"
    assert world.told()[1] == "CredentialsNotFound"
