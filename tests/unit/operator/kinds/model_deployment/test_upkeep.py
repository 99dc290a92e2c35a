"""What goes along with a rollout: pins, ServiceAccounts, pods that were refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from serval_operator.api.naming import pin_name
from serval_operator.api.resources import CONFIG_MAPS, PODS, SERVICE_ACCOUNTS
from serval_operator.errors import Conflict, Forbidden
from serval_operator.reconcile.controller import RETRY_REFUSED
from support import gen
from unit.operator.kinds.model_deployment.world import World, roll, served

pytestmark = pytest.mark.unit

ASKED = ("get", "ServiceAccount", "fetcher")
ACCOUNT = {"credentials": {"serviceAccountName": "fetcher"}}


class TestPin:
    async def test_is_made_once_when_the_first_replica_has_its_model(self) -> None:
        world = World(replicas=2)
        await world.reconcile()
        world.put_pod("digits-1", gen.fetched(version=7))
        name = pin_name(gen.MODEL, gen.MODEL_UID, world.carried)
        assert ("create", "ConfigMap", name) in await world.calls()
        pin = world.api.stored(CONFIG_MAPS, gen.NAMESPACE, name)
        assert pin is not None
        assert json.loads(pin["data"]["pin.json"]) == {"version": 7, "digest": gen.DIGEST}
        record = world.revisions[world.carried]
        assert pin["metadata"]["ownerReferences"][0]["uid"] == record["metadata"]["uid"]
        assert world.status["model"]["pinned"] is True
        world.put_pod("digits-2", gen.fetched(version=7))
        for _ in range(2):
            assert not [one for one in await world.calls() if one[1] == "ConfigMap"]
            world.restarted()

    async def test_one_that_is_there_already_is_right(self) -> None:
        world = World()
        await world.reconcile()
        world.put_pod("digits-1", gen.fetched())
        world.fail(Conflict(409, "AlreadyExists", "x"), verb="create", kind="ConfigMap")
        await world.reconcile()
        assert world.status["model"]["pinned"] is True

    @pytest.mark.parametrize(
        ("spec", "option"),
        [
            ({"model": {"version": 7}}, gen.fetched(version=7)),
            ({}, gen.fetched(digest="")),
            ({}, gen.fetched(version=None)),
            ({}, gen.fetch_running()),
        ],
        ids=["the spec says it", "no digest", "no version", "not fetched yet"],
    )
    async def test_is_not_made(self, spec: dict[str, Any], option: gen.Option) -> None:
        world = World(**spec)
        await world.reconcile()
        world.put_pod("digits-1", option)
        await world.reconcile()
        assert world.api.objects(CONFIG_MAPS) == []
        assert "pinned" not in world.status["model"]

    async def test_a_refusal_costs_the_pin_and_not_the_status(self) -> None:
        world = World()
        await world.reconcile()
        world.put_pod("digits-1", gen.ready())
        world.fail(Forbidden(403, "Forbidden", "quota"), verb="create", kind="ConfigMap")
        await world.reconcile()
        assert world.told()[:2] == ("True", "Serving")
        assert "pinned" not in world.status["model"]

    async def test_each_revision_has_its_own(self) -> None:
        world = await served()
        await roll(world, "high")
        assert len(world.api.objects(CONFIG_MAPS)) == 2


class TestServiceAccount:
    @staticmethod
    def put_account(world: World, *, allowed: str = "") -> None:
        labels = {"serval.dev/allowed": allowed} if allowed else {}
        world.api.put(
            SERVICE_ACCOUNTS,
            {"metadata": {"namespace": gen.NAMESPACE, "name": "fetcher", "labels": labels}},
        )

    async def test_that_is_not_there_lets_nothing_be_made(self) -> None:
        world = World(model=ACCOUNT)
        assert await world.reconcile() == RETRY_REFUSED
        told = "there is no ServiceAccount `fetcher` in this namespace"
        assert world.told() == ("False", "CredentialsNotFound", told)
        assert world.api.objects_of("Deployment") == []
        assert world.revisions == {}

    @pytest.mark.parametrize("allowed", ["", "false", "True"])
    async def test_that_does_not_allow_it_lets_nothing_be_made(self, allowed: str) -> None:
        world = World(model=ACCOUNT)
        self.put_account(world, allowed=allowed)
        assert await world.reconcile() == RETRY_REFUSED
        assert world.told()[1] == "ReferenceNotPermitted"
        assert world.api.objects_of("Deployment") == []

    async def allowed(self, **spec: Any) -> World:
        """A ModelDeployment that serves with an identity."""
        world = World(model=ACCOUNT, **spec)
        self.put_account(world, allowed="true")
        assert ASKED in await world.calls()
        world.put_pod("digits-1", gen.ready())
        await world.reconcile()
        (deployment,) = world.api.objects_of("Deployment")
        assert deployment["spec"]["template"]["spec"]["serviceAccountName"] == "fetcher"
        return world

    async def test_that_allows_it_is_not_asked_at_rest(self) -> None:
        world = await self.allowed()
        assert await world.calls() == []
        world.restarted()
        assert await world.calls() == []
        world.put_pod("digits-2", gen.ready())
        world.edit_spec(replicas=2)
        assert ASKED in await world.calls()
        assert world.told()[1] == "Serving"

    async def test_that_was_taken_back_gives_no_more_pods(self) -> None:
        world = await self.allowed(replicas=2)
        self.put_account(world)
        world.edit_spec(replicas=5)
        assert await world.reconcile() == RETRY_REFUSED
        assert world.told()[:2] == ("False", "ReferenceNotPermitted")
        assert world.told("Available")[0] == "True"
        assert world.stored_deployment["spec"]["replicas"] == 2, "what runs stays"
        world.edit_spec(replicas=1)
        assert ASKED not in await world.calls()
        assert world.stored_deployment["spec"]["replicas"] == 1
        assert world.told()[1] == "Serving"
        world.edit_spec(suspend=True)
        assert ASKED not in await world.calls()
        assert world.stored_deployment["spec"]["replicas"] == 0
        world.edit_spec(suspend=False)
        await world.reconcile()
        assert world.stored_deployment["spec"]["replicas"] == 0
        assert world.told()[1] == "ReferenceNotPermitted"

    async def test_that_was_taken_back_is_not_come_back_to(self) -> None:
        """The revision is recorded, so its template could be carried without a question."""
        world = await self.allowed()
        recorded = world.carried
        world.edit_spec(model={"uri": "https://models.example.com/digits.tar.gz"})
        await world.reconcile()
        plain = world.carried
        self.put_account(world)
        world.edit_spec(model={"uri": "https://models.example.com/digits.tar.gz", **ACCOUNT})
        await world.reconcile()
        assert recorded in world.revisions
        assert world.carried == plain
        assert world.told()[1] == "ReferenceNotPermitted"
        assert await world.calls() == [ASKED]

    async def test_that_was_taken_back_is_not_reverted_to(self) -> None:
        world = await self.allowed(rollout={"onFailure": "Revert"})
        world.edit_spec(model={"uri": "https://models.example.com/none.tar.gz"})
        await world.reconcile()
        failing = world.carried
        world.put_pod("digits-2", gen.fetch_failed(1, gen.fetch_failure("ModelNotFound", "nothing")))
        self.put_account(world)
        for _ in range(2):
            await world.reconcile()
        assert world.carried == failing
        assert world.told()[1] == "ReferenceNotPermitted"

    async def test_that_was_taken_back_lets_a_lower_number_through_with_another_revision(self) -> None:
        world = await self.allowed(replicas=3)
        before = world.carried
        self.put_account(world)
        world.edit_spec(replicas=1, scheduling={"priorityClassName": "high"})
        await world.reconcile()
        assert (world.carried, world.stored_deployment["spec"]["replicas"]) == (before, 1)
        assert world.status["effective"]["image"] == "registry.example/serval-server:1"

    async def test_of_a_change_leaves_what_serves(self) -> None:
        world = await served()
        before = world.carried
        world.edit_spec(model={"uri": "https://models.example.com/digits.tar.gz", **ACCOUNT})
        await world.reconcile()
        assert world.carried == before
        assert world.told("Available")[0] == "True"
        assert world.told()[1] == "CredentialsNotFound"


class TestDead:
    async def test_pods_that_a_node_refused_are_cleared_away(self) -> None:
        world = World()
        await world.reconcile()
        world.seconds = 5.0
        for number in range(8):
            world.put_pod(f"digits-dead-{number}", gen.refused())
        await world.reconcile()
        assert len(world.api.objects(PODS)) <= 2
        assert world.told()[1] == "DeviceAllocationFailed"
        (deployment,) = world.api.objects_of("Deployment")
        assert deployment["spec"]["replicas"] == 0

    async def test_one_that_cannot_be_cleared_away_costs_nothing(self) -> None:
        world = World()
        await world.reconcile()
        world.put_pod("digits-dead", gen.refused())
        world.put_pod("digits-1", gen.ready())
        world.fail(Forbidden(403, "Forbidden", "x"), verb="delete")
        await world.reconcile()
        assert world.told()[:2] == ("True", "Serving")
