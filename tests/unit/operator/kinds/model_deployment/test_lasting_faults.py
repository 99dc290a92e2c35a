"""Requests that fail for minutes: they silence nothing else."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from serval_operator.api.resources import DEPLOYMENTS, MODEL_DEPLOYMENTS, PODS, SERVICES
from serval_operator.errors import Conflict, Forbidden, Invalid, KubeError, Transient
from serval_operator.pods.failed_pods import KEPT
from serval_operator.reconcile.controller import LONGEST_RETRY, RETRY_REFUSED
from support import gen
from unit.operator.kinds.model_deployment.world import PLACE, World, served

pytestmark = pytest.mark.unit

WEBHOOK = Transient(500, "InternalError", 'failed calling webhook "x.example": connection refused')
LATE = Transient(0, "Timeout", "no answer within 30 s")


async def failing(world: World, times: int = 2, error: type[KubeError] = KubeError) -> None:
    """Reconciles that end with the failure, which the queue repeats with back-off."""
    for _ in range(times):
        with pytest.raises(error):
            await world.reconcile()


class TestChild:
    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (WEBHOOK, "ChildRefused"),
            (LATE, "RequestFailed"),
            (Conflict(409, "Conflict", "the object has been modified"), "RequestFailed"),
            (KubeError(404, "NotFound", "not found"), "RequestFailed"),
        ],
    )
    async def test_a_failure_that_lasts_is_told_with_the_words_of_the_server(
        self, error: KubeError, reason: str
    ) -> None:
        world = World()
        world.fail(error, kind="Deployment")
        await failing(world, 1)
        assert world.told()[1] == "Progressing"
        await failing(world, 1)
        assert world.told() == ("False", reason, f"Deployment/digits: {error.message}")
        assert world.told("Reconciling")[1] == reason
        assert world.events == [("Warning", reason)]
        world.heal()
        await world.reconcile()
        assert world.told()[1] == "Progressing"
        assert world.events[1:] == [("Normal", "Recovered")]

    async def test_is_told_of_an_edit_of_what_serves(self) -> None:
        world = await served()
        world.edit_spec(replicas=3)
        world.fail(WEBHOOK, kind="Deployment")
        await failing(world)
        assert world.told()[:2] == ("False", "ChildRefused")
        assert world.told("Available")[0] == "True"
        assert world.status["observedGeneration"] == 2

    async def test_does_not_keep_the_other_children_away(self) -> None:
        world = World()
        world.fail(LATE, kind="Service")
        await failing(world)
        assert world.stored(DEPLOYMENTS)
        assert world.revisions

    @pytest.mark.parametrize("spec", [{"suspend": True}, {"replicas": 0}])
    @pytest.mark.parametrize(("verb", "kind"), [("apply", "Service"), ("create", "ControllerRevision")])
    async def test_does_not_keep_a_stop_away(self, spec: dict[str, Any], verb: str, kind: str) -> None:
        world = await served()
        world.edit_spec(**spec, scheduling={"priorityClassName": "high"})
        if kind == "Service":
            world.api.remove(SERVICES, *PLACE)
        world.fail(LATE, verb=verb, kind=kind)
        await failing(world)
        assert world.stored_deployment["spec"]["replicas"] == 0

    async def test_one_success_begins_the_count_again(self) -> None:
        world = World()
        for _ in range(3):
            world.fail(LATE, kind="Deployment")
            await failing(world, 1)
            world.heal()
            await world.reconcile()
            world.api.remove(DEPLOYMENTS, *PLACE)
        assert world.events == []


class TestRefusal:
    async def test_is_tried_again_with_growing_pauses(self) -> None:
        world = World()
        world.fail(Forbidden(403, "Forbidden", "no"), kind="Service")
        pauses = [await world.reconcile() for _ in range(6)]
        assert pauses == [RETRY_REFUSED, 20, 40, LONGEST_RETRY, LONGEST_RETRY, LONGEST_RETRY]
        world.fail(Forbidden(403, "Forbidden", "for another cause"), kind="Service")
        assert await world.reconcile() == RETRY_REFUSED
        assert await world.reconcile() == 20
        world.heal()
        assert await world.reconcile() is None
        world.fail(Forbidden(403, "Forbidden", "for another cause"), kind="Service")
        world.api.remove(SERVICES, *PLACE)
        assert await world.reconcile() == RETRY_REFUSED


class TestQuestions:
    async def test_a_service_account_that_cannot_be_read_does_not_keep_a_stop_away(self) -> None:
        world = await served()
        account = {"credentials": {"serviceAccountName": "fetcher"}}
        world.edit_spec(suspend=True, model={"uri": "https://models.example.com/digits.tar.gz", **account})
        world.fail(LATE, verb="get", kind="ServiceAccount")
        assert await world.reconcile() == RETRY_REFUSED
        assert world.stored_deployment["spec"]["replicas"] == 0
        assert world.told() == ("False", "RequestFailed", f"ServiceAccount/fetcher: {LATE.message}")


class TestStop:
    """A stop that fails is told, whatever else is."""

    @pytest.mark.parametrize("error", [Forbidden(403, "Forbidden", "no"), WEBHOOK])
    async def test_of_an_invalid_spec(self, error: KubeError) -> None:
        world = await served()
        world.edit_spec(suspend=True, runtime={"name": "moon"}, podMetadata={"labels": {"a": "b"}})
        world.fail(error, kind="Deployment")
        for _ in range(2):
            with contextlib.suppress(Transient):
                await world.reconcile()
        assert world.told()[1] == "UnknownRuntime"
        assert f"Deployment/digits: {error.message}" in world.told()[2]

    async def test_beside_what_bars_it(self) -> None:
        world = await served()
        account = {"credentials": {"serviceAccountName": "fetcher"}}
        world.edit_spec(suspend=True, model={"uri": "https://models.example.com/digits.tar.gz", **account})
        world.fail(WEBHOOK, kind="Deployment")
        await failing(world)
        assert world.told()[1] == "CredentialsNotFound"
        assert f"Deployment/digits: {WEBHOOK.message}" in world.told()[2]


class TestOptional:
    @pytest.mark.parametrize("error", [WEBHOOK, LATE, Conflict(409, "Conflict", "quota was updated")])
    async def test_a_pin_that_cannot_be_made_costs_the_pin_alone(self, error: KubeError) -> None:
        world = World()
        await world.reconcile()
        world.put_pod("digits-1", gen.ready())
        world.fail(error, verb="create", kind="ConfigMap")
        for _ in range(3):
            assert await world.reconcile() == LONGEST_RETRY
        assert world.told()[:2] == ("True", "Serving")
        assert "pinned" not in world.status["model"]
        world.heal()
        assert await world.reconcile() is None
        assert world.status["model"]["pinned"] is True

    async def test_a_deletion_that_fails_is_tried_again(self) -> None:
        world = World()
        await world.reconcile()
        for number in range(25):
            world.put_pod(f"dead-{number}", gen.evicted("too much memory", after=number), created=number)
        world.fail(LATE, verb="delete", name="dead-3")
        assert await world.reconcile() == LONGEST_RETRY
        left = {one["metadata"]["name"] for one in world.api.objects(PODS)}
        assert "dead-3" in left
        assert len(left) <= 1 + KEPT, "the others went"


class TestStatus:
    async def test_a_refused_one_is_told_by_an_event_and_by_its_conditions(self) -> None:
        world = World()
        await world.reconcile()
        world.put_pod("digits-1", gen.ready())

        def refuse(call: Any) -> None:
            if call.verb == "apply_status" and "placement" in call.body["status"]:
                raise Invalid(422, "Invalid", "status.placement: Too many")

        world.api.on_call = refuse
        await failing(world, 2, Invalid)
        assert world.events[0] == ("Warning", "StatusRefused")
        assert world.told()[:2] == ("True", "Serving")
        assert "placement" not in world.status
        assert world.status["revision"] == world.carried, "what the status remembers stays"
        world.heal()
        await world.reconcile()
        assert world.status["placement"]

    async def test_one_that_may_not_be_written_is_told_by_an_event(self) -> None:
        world = World()
        world.fail(Forbidden(403, "Forbidden", "no"), verb="apply_status")
        await failing(world, 1, Forbidden)
        assert world.events == [("Warning", "StatusRefused")]
        assert world.stored(MODEL_DEPLOYMENTS)["status"] == {"observedGeneration": -1}
