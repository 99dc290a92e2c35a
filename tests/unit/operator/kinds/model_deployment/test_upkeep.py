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


def pins(calls: list[tuple[str, str, str]]) -> int:
    """Requests to create a pin."""
    return sum((verb, kind) == ("create", "ConfigMap") for verb, kind, _ in calls)


def pods(world: World) -> list[str]:
    return sorted(one["metadata"]["name"] for one in world.api.objects(PODS))


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


class TestPinThatIsGone:
    """It was deleted by hand. It may not be read, so it is created again for each pod that will need it."""

    @staticmethod
    async def without() -> World:
        world = World(replicas=2)
        await world.reconcile()
        world.put_pod("digits-1", gen.ready())
        await world.reconcile()
        world.api.remove(CONFIG_MAPS, gen.NAMESPACE, pin_name(gen.MODEL, gen.MODEL_UID, world.carried))
        world.restarted()
        return world

    async def test_is_made_again_once_for_a_pod_that_has_still_to_fetch(self) -> None:
        world = await self.without()
        assert pins(await world.calls()) == 0
        world.put_pod("digits-2", gen.unschedulable("no node"))
        assert pins(await world.calls()) == 1
        (pin,) = world.api.objects(CONFIG_MAPS)
        assert json.loads(pin["data"]["pin.json"]) == {"version": 3, "digest": gen.DIGEST}
        for option in (gen.placed(), gen.starting(), gen.fetch_running()):
            world.put_pod("digits-2", option)
            assert pins(await world.calls()) == 0
        world.put_pod("digits-3", gen.starting())
        assert pins(await world.calls()) == 1
        world.put_pod("digits-2", gen.ready())
        world.put_pod("digits-3", gen.ready())
        world.restarted()
        assert pins(await world.calls()) == 0

    async def test_is_tried_again_where_it_could_not_be_made(self) -> None:
        world = await self.without()
        world.put_pod("digits-2", gen.starting())
        world.fail(Forbidden(403, "Forbidden", "quota"), verb="create", kind="ConfigMap")
        assert pins(await world.calls()) == 1
        world.heal()
        assert pins(await world.calls()) == 1
        assert pins(await world.calls()) == 0


class TestReplicasThatDiffer:
    OTHER = "sha256:" + "b" * 64

    async def raced(self, *options: gen.Option, replicas: int = 2, **spec: Any) -> World:
        """Two replicas of one revision, started before there was a pin: the first has version 3."""
        world = World(replicas=replicas, **spec)
        await world.reconcile()
        world.put_pod("digits-1", gen.fetched(version=3), gen.ready())
        world.put_pod("digits-2", gen.fetched(version=4, digest=self.OTHER), *options, created=1)
        return world

    def bound(self, world: World, *, to: int = 3) -> None:
        world.put_pod("digits-2", gen.fetched(version=to, pinned=True), gen.ready(), created=90)

    @pytest.mark.parametrize("option", [gen.loading(), gen.ready()], ids=["loads", "serves"])
    async def test_are_not_ready_and_the_odd_one_is_replaced(self, option: gen.Option) -> None:
        world = await self.raced(option)
        calls = await world.calls()
        assert pins(calls) == 1
        assert pods(world) == ["digits-1"]
        assert world.status["model"]["version"] == 3
        world.put_pod("digits-2", gen.starting(), created=90)
        await world.reconcile()
        assert pods(world) == ["digits-1", "digits-2"]
        self.bound(world)
        await world.reconcile()
        assert world.told()[:2] == ("True", "Serving")
        assert await world.calls() == []

    async def test_are_told_while_one_cannot_be_deleted(self) -> None:
        world = await self.raced(gen.ready())
        world.fail(Forbidden(403, "Forbidden", "x"), verb="delete")
        await world.reconcile()
        told = (
            "1 of 2 pods: it serves version 4 (sha256:bbbbbbbbbbbb), and its revision version 3 "
            "(sha256:aaaaaaaaaaaa)"
        )
        assert world.told() == ("False", "ModelVersionSkew", told)
        assert world.told("Available")[0] == "True"
        assert "servingRevision" not in world.status

    async def test_one_by_one_so_that_the_others_serve(self) -> None:
        world = await self.raced(gen.ready(), replicas=3)
        world.put_pod("digits-3", gen.fetched(version=4, digest=self.OTHER), gen.ready(), created=2)
        await world.reconcile()
        assert pods(world) == ["digits-1", "digits-3"]
        world.put_pod("digits-2", gen.fetched(pinned=True), gen.loading(), created=90)
        await world.reconcile()
        assert pods(world) == ["digits-1", "digits-2", "digits-3"]
        self.bound(world)
        await world.reconcile()
        assert pods(world) == ["digits-1", "digits-2"]

    async def test_nothing_is_deleted_where_the_pin_cannot_be_made(self) -> None:
        """A successor would be no better, and deleted again and again."""
        world = await self.raced(gen.ready())
        world.fail(Forbidden(403, "Forbidden", "quota"), verb="create", kind="ConfigMap")
        for _ in range(3):
            await world.reconcile()
        assert pods(world) == ["digits-1", "digits-2"]
        assert world.told()[1] == "ModelVersionSkew"

    async def test_one_that_is_bound_is_told_and_not_deleted(self) -> None:
        world = await self.raced(gen.ready(), replicas=3)
        world.put_pod("digits-2", gen.fetched(version=3, pinned=True), gen.ready(), created=90)
        world.put_pod("digits-3", gen.fetched(version=4, pinned=True), gen.ready(), created=91)
        for _ in range(3):
            await world.reconcile()
        assert pods(world) == ["digits-1", "digits-2", "digits-3"]
        assert world.told()[1] == "ModelVersionSkew"

    async def test_what_a_pin_bound_is_what_the_revision_serves(self) -> None:
        """The pin was there already: a former operator made it, and could not write the status."""
        world = await self.raced(replicas=2)
        world.put_pod("digits-2", gen.fetched(version=4, digest=self.OTHER, pinned=True), gen.ready())
        await world.reconcile()
        assert pods(world) == ["digits-2"]
        assert world.status["model"]["version"] == 4

    async def test_the_last_one_is_never_deleted(self) -> None:
        """The pin was deleted, and the only replica was replaced meanwhile."""
        world = World()
        await world.reconcile()
        world.put_pod("digits-1", gen.ready())
        await world.reconcile()
        world.api.remove(PODS, gen.NAMESPACE, "digits-1")
        world.put_pod("digits-2", gen.fetched(version=4, digest=self.OTHER), gen.ready())
        for _ in range(3):
            await world.reconcile()
        assert pods(world) == ["digits-2"]
        assert world.told()[1] == "ModelVersionSkew"
        assert world.status["model"]["version"] == 3

    async def test_of_a_version_that_the_spec_names_are_told(self) -> None:
        """There is no pin that would bind a successor."""
        world = await self.raced(replicas=2, model={"version": 3})
        world.put_pod("digits-2", gen.fetched(version=3, digest=self.OTHER), gen.ready(), created=1)
        for _ in range(2):
            await world.reconcile()
        assert pods(world) == ["digits-1", "digits-2"]
        assert world.told()[1] == "ModelVersionSkew"
        world.put_pod("digits-1", gen.fetched(version=3, digest=self.OTHER), gen.ready())
        await world.reconcile()
        assert world.told()[:2] == ("True", "Serving")


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


class TestEvicted:
    @pytest.mark.parametrize(
        "spec",
        [
            {},
            {"accelerator": {"profile": "moon", "count": 1}},
            {"model": {"uri": "s3://models/x", **ACCOUNT}},
        ],
        ids=["Serving", "UnknownProfile", "CredentialsNotFound"],
    )
    async def test_pods_do_not_pile_up(self, spec: dict[str, Any], request: pytest.FixtureRequest) -> None:
        world = await served()
        for number in range(8):
            world.put_pod(
                f"digits-e{number}", gen.ready(), gen.evicted("low on memory", after=100.0 + number)
            )
        world.edit_spec(**spec)
        await world.reconcile()
        assert world.told()[1] in request.node.name
        assert pods(world) == ["digits-e5", "digits-e6", "digits-e7", "digits-old"]
        assert ("delete", "Pod", "digits-e5") not in await world.calls()


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
