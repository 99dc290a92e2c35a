"""A recorded revision goes on without what the configuration has lost; a new one does not begin."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from serval_operator.config import Configuration
from support import gen
from unit.operator.configuration import CONFIGURATION, FRONTED
from unit.operator.kinds.model_deployment.world import World

pytestmark = pytest.mark.unit

OFFICIAL = {"runtime": {"name": "tensorflow-serving"}}
GPU = {"accelerator": {"profile": "spot", "count": 1}}
SCORING = {**OFFICIAL, "endpoint": {"rawBytes": "Enabled"}}
CLASS = {"scheduling": {"priorityClassName": "high"}}
EDIT = {"rollout": {"trigger": "again"}}


def without(kind: str, name: str, start: Configuration = CONFIGURATION) -> Configuration:
    """The configuration without a runtime or a profile."""
    kept = {key: one for key, one in getattr(start, kind).items() if key != name}
    return replace(start, **{kind: kept})


CASES = [
    (OFFICIAL, CONFIGURATION, without("runtimes", "tensorflow-serving"), "UnknownRuntime"),
    (GPU, CONFIGURATION, without("profiles", "spot"), "UnknownProfile"),
    (SCORING, FRONTED, CONFIGURATION, "UnsupportedSpec"),
]
each_case = pytest.mark.parametrize(
    ("spec", "before", "after", "reason"), CASES, ids=["runtime", "profile", "front"]
)


async def serving(spec: dict[str, Any], before: Configuration, after: Configuration) -> World:
    """A ModelDeployment that serves when the configuration loses what it was rendered with."""
    world = World(**spec)
    world.configuration = before
    world.put_node("gpu-0", gpu=1)
    world.restarted()
    world.edit_spec(replicas=0)
    await world.reconcile()
    world.edit_spec(replicas=1)
    world.put_pod("digits-1", gen.ready())
    await world.reconcile()
    assert world.told()[:2] == ("True", "Serving")
    world.configuration = after
    world.restarted()
    return world


@each_case
class TestRecorded:
    async def test_stays_ready_and_says_what_is_missing(
        self, spec: Any, before: Configuration, after: Configuration, reason: str
    ) -> None:
        world = await serving(spec, before, after)
        status = world.status
        await world.reconcile()
        assert world.told()[:2] == ("True", "Serving")
        told = world.told("UpdateAvailable")
        assert told[:2] == ("False", reason)
        assert "the pods stay as their revision recorded them" in told[2]
        assert ("Warning", reason) in world.events
        for field in ("effective", "endpoints", "revision", "servingRevision", "updatedReplicas"):
            assert world.status[field] == status[field]
        assert await world.calls() == []

    async def test_scales_and_stops(
        self, spec: Any, before: Configuration, after: Configuration, reason: str
    ) -> None:
        world = await serving(spec, before, after)
        template = world.stored_deployment["spec"]["template"]
        for changed, expected in (({"replicas": 3}, 3), ({"suspend": True}, 0)):
            world.edit_spec(**changed)
            await world.reconcile()
            assert world.stored_deployment["spec"]["replicas"] == expected
            assert world.stored_deployment["spec"]["template"] == template
        assert world.told("UpdateAvailable")[1] == reason

    async def test_a_new_revision_does_not_begin(
        self, spec: Any, before: Configuration, after: Configuration, reason: str
    ) -> None:
        world = await serving(spec, before, after)
        carried = world.carried
        world.edit_spec(**EDIT)
        await world.reconcile()
        assert world.told()[:2] == ("False", reason)
        assert world.told("Stalled")[0] == "True"
        assert world.carried == carried

    async def test_is_itself_again_when_the_name_is_back(
        self, spec: Any, before: Configuration, after: Configuration, reason: str
    ) -> None:
        world = await serving(spec, before, after)
        status = world.status
        await world.reconcile()
        assert world.told("UpdateAvailable")[1] == reason
        world.configuration = before
        world.restarted()
        await world.reconcile()
        assert world.status == status


async def test_a_runtime_that_has_unlearned_restarts_nobody() -> None:
    """A front would be rendered today; the pods that run were made without one."""
    official = CONFIGURATION.runtimes["tensorflow-serving"]
    able = replace(official, capabilities=official.capabilities | {"raw-score"})
    learned = replace(FRONTED, runtimes={**FRONTED.runtimes, official.name: able})
    world = await serving(SCORING, learned, FRONTED)
    carried = world.carried
    await world.reconcile()
    assert world.carried == carried
    assert world.told("UpdateAvailable")[0] == "True"


class TestPriorityClass:
    """One that the administrator no longer allows: what runs stays, and nothing new gets it."""

    @staticmethod
    async def forbidden(**spec: Any) -> World:
        after = replace(CONFIGURATION, allowed_priority_classes=("low",))
        return await serving({**CLASS, **spec}, CONFIGURATION, after)

    async def test_gives_no_more_pods(self) -> None:
        world = await self.forbidden()
        await world.reconcile()
        assert world.told()[1] == "Serving"
        world.edit_spec(replicas=2)
        await world.reconcile()
        assert world.told()[:2] == ("False", "UnsupportedSpec")
        assert world.stored_deployment["spec"]["replicas"] == 1
        world.edit_spec(replicas=0)
        await world.reconcile()
        assert world.stored_deployment["spec"]["replicas"] == 0

    async def test_is_not_reverted_to(self) -> None:
        world = await self.forbidden(rollout={"onFailure": "Revert"})
        world.edit_spec(scheduling={"priorityClassName": "low"})
        await world.reconcile()
        failing = world.carried
        world.put_pod("digits-2", gen.fetch_failed(1, gen.fetch_failure("ModelNotFound", "nothing")))
        for _ in range(2):
            await world.reconcile()
        assert world.carried == failing
        assert world.told()[1] == "UnsupportedSpec"
