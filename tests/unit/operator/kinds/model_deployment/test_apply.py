"""Children that come and go with the spec, and those that no plain apply can mend."""

from __future__ import annotations

from typing import Any

import pytest

from serval_operator.api.resources import AUTOSCALERS, DEPLOYMENTS, DISRUPTION_BUDGETS, SERVICES, Resource
from serval_operator.errors import Conflict, Fenced, Forbidden, Invalid
from serval_operator.reconcile.controller import RETRY_REFUSED
from support import gen
from support.fakes import Call
from unit.operator.kinds.model_deployment.world import KEY, PLACE, World

pytestmark = pytest.mark.unit

SCALED: dict[str, Any] = {
    "autoscaling": {"minReplicas": 1, "maxReplicas": 4},
    "resources": {"requests": {"cpu": "1"}},
}
OPTIONAL = [
    (AUTOSCALERS, SCALED, {"autoscaling": None}),
    (DISRUPTION_BUDGETS, {"disruption": {"maxUnavailable": 1}}, {"disruption": None}),
]
IDS = ["autoscaler", "budget"]


def there(world: World, resource: Resource) -> bool:
    return world.api.stored(resource, *PLACE) is not None


class TestOptional:
    @pytest.mark.parametrize(("resource", "wish", "_"), OPTIONAL, ids=IDS)
    async def test_is_not_there_unless_asked_for(self, resource: Resource, wish: Any, _: Any) -> None:
        world = World()
        await world.reconcile()
        assert not there(world, resource)
        world.edit_spec(**wish)
        await world.reconcile()
        assert there(world, resource)
        assert await world.calls() == []

    @pytest.mark.parametrize(("resource", "wish", "end"), OPTIONAL, ids=IDS)
    async def test_goes_when_nobody_asks_for_it_any_more(
        self, resource: Resource, wish: Any, end: Any
    ) -> None:
        world = World(**wish)
        await world.reconcile()
        world.edit_spec(**end)
        calls = await world.calls()
        assert calls.count(("delete", resource.kind, gen.MODEL)) == 1
        assert not there(world, resource)
        assert await world.calls() == []

    @pytest.mark.parametrize(("resource", "wish", "end"), OPTIONAL, ids=IDS)
    async def test_goes_after_a_restart_too(self, resource: Resource, wish: Any, end: Any) -> None:
        world = World(**wish)
        await world.reconcile()
        world.edit_spec(**end)
        world.restarted()
        await world.reconcile()
        assert not there(world, resource)

    @pytest.mark.parametrize(("resource", "wish", "_"), OPTIONAL, ids=IDS)
    async def test_of_somebody_else_is_left_alone(self, resource: Resource, wish: Any, _: Any) -> None:
        world = World()
        labels = {"app.kubernetes.io/managed-by": "serval-operator"}
        theirs = {"metadata": {"name": gen.MODEL, "namespace": gen.NAMESPACE, "labels": labels}, "spec": {}}
        before = world.api.put(resource, theirs)
        assert await world.reconcile() is None
        assert world.told()[1] == "Progressing"
        world.edit_spec(**wish)
        assert await world.reconcile() == RETRY_REFUSED
        assert world.told()[1] == "ResourceConflict"
        assert world.stored(resource) == before

    @pytest.mark.parametrize(("resource", "wish", "end"), OPTIONAL, ids=IDS)
    async def test_that_is_being_deleted_is_not_deleted_again(
        self, resource: Resource, wish: Any, end: Any
    ) -> None:
        world = World(**wish)
        await world.reconcile()
        world.api.edit(resource, *PLACE, gen.deleting)
        world.edit_spec(**end)
        assert ("delete", resource.kind, gen.MODEL) not in await world.calls()

    async def test_that_was_replaced_unseen_is_not_deleted(self) -> None:
        world = World(**SCALED)
        await world.reconcile()
        world.deaf = True
        world.api.remove(AUTOSCALERS, *PLACE)
        theirs = world.api.put(AUTOSCALERS, {"metadata": {"name": gen.MODEL, "namespace": gen.NAMESPACE}})
        world.deaf = False
        world.edit_spec(autoscaling=None)
        await world.reconcile()
        assert world.stored(AUTOSCALERS) == theirs

    async def test_follows_the_spec(self) -> None:
        world = World(**SCALED)
        await world.reconcile()
        world.edit_spec(autoscaling={"minReplicas": 2, "maxReplicas": 9})
        assert ("apply", AUTOSCALERS.kind, gen.MODEL) in await world.calls()
        spec = world.stored(AUTOSCALERS)["spec"]
        assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 9)

    async def test_an_autoscaler_is_off_while_suspended(self) -> None:
        world = World(**SCALED)
        await world.reconcile()
        world.edit_spec(suspend=True)
        await world.reconcile()
        assert not there(world, AUTOSCALERS)
        assert there(world, DISRUPTION_BUDGETS)
        world.edit_spec(suspend=False)
        await world.reconcile()
        assert there(world, AUTOSCALERS)

    async def test_a_budget_comes_with_the_second_replica(self) -> None:
        world = World()
        await world.reconcile()
        world.edit_spec(replicas=2)
        await world.reconcile()
        assert there(world, DISRUPTION_BUDGETS)
        world.edit_spec(replicas=1)
        await world.reconcile()
        assert not there(world, DISRUPTION_BUDGETS)


class TestPorts:
    """The API server merges ports by number, so a renumbered one cannot be mended by an apply alone."""

    @staticmethod
    def renumber(obj: gen.Object) -> None:
        obj["spec"]["ports"][0]["port"] = 9999

    @staticmethod
    def picky(world: World) -> None:
        """An apply is refused while the stored Service has a port that is not in the manifest."""

        def check(call: Call) -> None:
            if call.verb == "apply" and call.resource is SERVICES and call.body:
                stored = world.api.stored(SERVICES, call.namespace, call.name) or {"spec": {}}
                have = [one["port"] for one in stored["spec"].get("ports", [])]
                sent = [one["port"] for one in call.body["spec"]["ports"]]
                if set(have) - set(sent):
                    raise Invalid(422, "Invalid", 'spec.ports[3].name: Duplicate value: "grpc"')

        world.api.on_call = check

    async def test_are_put_back_first(self) -> None:
        world = World()
        await world.reconcile()
        before = world.stored(SERVICES)["spec"]["ports"]
        world.api.edit(SERVICES, *PLACE, self.renumber)
        self.picky(world)
        service = ("Service", gen.MODEL)
        assert await world.calls() == [("apply", *service), ("merge", *service), ("apply", *service)]
        assert world.stored(SERVICES)["spec"]["ports"] == before
        assert await world.calls() == []

    async def test_of_a_stranger_are_not_touched(self) -> None:
        """A Service that is replaced between two looks keeps its ports: the repair names the uid."""
        world = World()
        await world.reconcile()
        world.deaf = True
        world.api.remove(SERVICES, *PLACE)
        theirs = {
            "metadata": {"name": gen.MODEL, "namespace": gen.NAMESPACE},
            "spec": {"ports": [{"port": 1}]},
        }
        before = world.api.put(SERVICES, theirs)
        world.restarted()
        world.cache.store(SERVICES).observe("MODIFIED", self.touched(world))
        self.picky(world)
        with pytest.raises(Conflict):
            await world.reconcile()
        assert world.stored(SERVICES) == before

    @staticmethod
    def touched(world: World) -> gen.Object:
        """Our Service as it was, with a field of somebody else: an apply is due."""
        (view,) = [one for one in world.cache.owned(SERVICES, KEY) if one.name == gen.MODEL]
        obj = gen.service(gen.managed("kubectl", {"f:spec": {}}))
        obj["metadata"] |= {"uid": view.uid, "resourceVersion": str(int(view.resource_version) + 1)}
        return obj

    async def test_a_refusal_for_another_reason_is_told(self) -> None:
        world = World()
        await world.reconcile()
        world.api.edit(SERVICES, *PLACE, self.renumber)
        world.fail(Invalid(422, "Invalid", "no"), kind="Service", name=gen.MODEL)
        assert await world.reconcile() == RETRY_REFUSED
        assert world.told() == ("False", "ChildRefused", "Service/digits: no")

    async def test_of_other_kinds_nothing_is_merged(self) -> None:
        world = World()
        await world.reconcile()
        world.edit_spec(replicas=3)
        world.fail(Invalid(422, "Invalid", "no"), kind="Deployment")
        assert not [one for one in await world.calls() if one[0] == "merge"]
        assert world.told()[1] == "ChildRefused"


class TestNamespace:
    async def test_that_is_being_deleted_has_a_name_of_its_own(self) -> None:
        world = World()
        words = (
            'deployments.apps "digits" is forbidden: unable to create new content in namespace vision '
            "because it is being terminated"
        )
        world.fail(Forbidden(403, "Forbidden", words))
        assert await world.reconcile() == RETRY_REFUSED
        assert world.told()[1] == "NamespaceTerminating"


class TestFenced:
    """Another operator works: nothing is written, and nothing is told."""

    @pytest.mark.parametrize("verb", ["apply", "create", "apply_status"])
    async def test_writes_are_left_to_the_other_one(self, verb: str) -> None:
        world = World()
        world.fail(Fenced("not sent"), verb=verb)
        with pytest.raises(Fenced):
            await world.reconcile()
        assert world.status == {"observedGeneration": -1}
        assert world.events == []

    async def test_a_mark_and_a_pin_too(self) -> None:
        world = World(rollout={"onFailure": "Revert"})
        await world.reconcile()
        world.put_pod("digits-1", gen.ready())
        world.fail(Fenced("not sent"), verb="create", kind="ConfigMap")
        with pytest.raises(Fenced):
            await world.reconcile()
        assert world.told()[1] == "Progressing"


async def test_the_deployment_is_in_no_need_of_the_rest() -> None:
    """What one child is refused keeps no other away."""
    world = World(**SCALED)
    world.fail(Forbidden(403, "Forbidden", "no"), kind=AUTOSCALERS.kind)
    await world.reconcile()
    assert there(world, DEPLOYMENTS)
    assert world.revisions
    assert world.told()[1] == "ChildRefused"
