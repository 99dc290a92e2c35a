"""The reconciler's story on an API server in memory."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from serval_operator.api.naming import pin_name
from serval_operator.api.resources import CONTROLLER_REVISIONS, DEPLOYMENTS, MODEL_DEPLOYMENTS, PODS, SERVICES
from serval_operator.cluster.capacity import Supply
from serval_operator.errors import Conflict, Forbidden, Invalid, KubeError, Transient
from serval_operator.reconcile.controller import RETRY_REFUSED
from serval_operator.runtime.cache import Cache
from support import gen
from support.watched import OWNERS
from unit.operator.kinds.model_deployment.world import PLACE, World

pytestmark = pytest.mark.unit

HEADLESS = f"{gen.MODEL}-headless"
CHILDREN = (("Deployment", gen.MODEL), ("Service", gen.MODEL), ("Service", HEADLESS))
BUDGET = ("PodDisruptionBudget", gen.MODEL)
STRANGER: dict[str, Any] = {
    "metadata": {"name": gen.MODEL, "namespace": gen.NAMESPACE},
    "spec": {"selector": {"app": "mine"}},
}


class TestFirst:
    async def test_makes_the_children_and_tells(self) -> None:
        world = World(replicas=2)
        calls = await world.calls()
        for child in (*CHILDREN, BUDGET):  # side by side, and each looked for before it is applied
            assert [one for one in calls if one[1:] == child] == [("get", *child), ("apply", *child)]
        record = ("create", "ControllerRevision", f"{gen.MODEL}-{world.carried}")
        assert calls.count(record) == 1
        assert calls[9:] == [("apply_status", "ModelDeployment", gen.MODEL)]
        deployment = world.stored(DEPLOYMENTS)
        assert deployment["spec"]["replicas"] == 2
        assert deployment["metadata"]["ownerReferences"][0]["uid"] == gen.MODEL_UID
        assert world.stored(SERVICES)["spec"]["type"] == "ClusterIP"
        assert world.stored(SERVICES, HEADLESS)["spec"]["clusterIP"] == "None"
        assert world.told() == ("False", "Progressing", "0 of 2 pods; the pods are being created")
        assert world.status["observedGeneration"] == 1
        assert world.states == ["Progressing"]

    async def test_the_second_run_sends_nothing(self) -> None:
        world = World()
        assert await world.reconcile() is None
        assert await world.calls() == []

    async def test_nor_does_the_first_run_after_a_restart(self) -> None:
        world = World()
        await world.reconcile()
        world.restarted()
        assert await world.calls() == []

    async def test_sees_its_own_writes_before_the_watch_tells(self) -> None:
        world = World()
        world.deaf = True
        await world.reconcile()
        assert await world.calls() == []

    async def test_finishes_what_a_killed_predecessor_began(self) -> None:
        world = World()
        world.fail(Transient(500, "", "killed"), verb="apply", kind="Service")
        with pytest.raises(Transient):
            await world.reconcile()
        world.heal()
        world.restarted()
        calls = await world.calls()
        assert ("apply", "Deployment", gen.MODEL) not in calls
        assert [one for one in calls if one[0] == "apply"] == [("apply", *child) for child in CHILDREN[1:]]


class TestChange:
    async def test_becomes_ready(self) -> None:
        world = World()
        await world.reconcile()
        world.put_pod("digits-1", gen.ready())
        assert await world.calls() == [
            ("create", "ConfigMap", pin_name(gen.MODEL, gen.MODEL_UID, world.carried)),
            ("apply_status", "ModelDeployment", gen.MODEL),
        ]
        assert world.told() == ("True", "Serving", "1 of 1 replicas serve the newest spec")
        assert world.status["modelSummary"] == "digits/3"
        assert await world.calls() == []

    async def test_a_change_of_replicas_is_no_new_revision(self) -> None:
        world = World()
        await world.reconcile()
        before = world.stored(DEPLOYMENTS)
        world.edit_spec(replicas=3)
        calls = await world.calls()
        assert [one for one in calls if one[0] == "apply"] == [
            ("apply", "Deployment", gen.MODEL),
            ("apply", *BUDGET),
        ]
        after = world.stored(DEPLOYMENTS)
        assert after["spec"]["replicas"] == 3
        assert after["spec"]["template"] == before["spec"]["template"]
        assert world.status["observedGeneration"] == 2

    async def test_a_change_of_the_pods_is_a_new_revision(self) -> None:
        world = World()
        await world.reconcile()
        before = world.status["revision"]
        world.put_pod("digits-1", gen.ready())
        world.edit_spec(scheduling={"priorityClassName": "high"})
        await world.reconcile()
        assert world.status["revision"] != before
        assert world.told("Available")[0] == "True"
        assert world.told()[:2] == ("False", "Progressing")

    async def test_suspend_and_resume(self) -> None:
        world = World(replicas=2)
        await world.reconcile()
        world.edit_spec(suspend=True)
        await world.reconcile()
        assert world.stored(DEPLOYMENTS)["spec"]["replicas"] == 0
        assert world.told()[:2] == ("True", "Suspended")
        world.edit_spec(suspend=False)
        await world.reconcile()
        assert world.stored(DEPLOYMENTS)["spec"]["replicas"] == 2

    async def test_a_deleted_child_is_made_again(self) -> None:
        world = World()
        await world.reconcile()
        world.api.remove(SERVICES, gen.NAMESPACE, gen.MODEL)
        await world.reconcile()
        assert world.stored(SERVICES)["spec"]["type"] == "ClusterIP"
        assert await world.calls() == []

    async def test_a_child_that_was_not_seen_yet_is_found(self) -> None:
        world = World()
        await world.reconcile()
        before = world.stored(SERVICES)
        world.cache = Cache(OWNERS)
        world.cache.store(MODEL_DEPLOYMENTS).observe("ADDED", world.stored(MODEL_DEPLOYMENTS))
        world.restarted()
        assert ("apply", "Service", gen.MODEL) in await world.calls()
        assert world.told()[1] == "Progressing"
        assert world.stored(SERVICES) == before
        assert await world.calls() == []


class TestStranger:
    @pytest.mark.parametrize("resource", [SERVICES, DEPLOYMENTS], ids=["Service", "Deployment"])
    async def test_is_left_alone(self, resource: Any) -> None:
        world = World()
        before = world.api.put(resource, STRANGER)
        assert await world.reconcile() == RETRY_REFUSED
        told = f"{resource.kind}/digits exists and does not belong to this ModelDeployment"
        assert world.told() == ("False", "ResourceConflict", told)
        await world.reconcile()
        assert world.stored(resource) == before
        assert not [one for one in world.api.writes() if one.resource is resource and one.name == gen.MODEL]

    async def test_does_not_keep_the_other_children_away(self) -> None:
        world = World()
        world.api.put(SERVICES, STRANGER)
        await world.reconcile()
        assert world.stored(DEPLOYMENTS)
        assert world.stored(SERVICES, HEADLESS)

    @pytest.mark.parametrize("resource", [SERVICES, DEPLOYMENTS], ids=["Service", "Deployment"])
    async def test_makes_way(self, resource: Any) -> None:
        world = World()
        world.api.put(resource, STRANGER)
        await world.reconcile()
        world.api.remove(resource, gen.NAMESPACE, gen.MODEL)
        assert await world.reconcile() is None
        assert world.told()[:2] == ("False", "Progressing")
        assert world.stored(resource)["metadata"]["ownerReferences"][0]["uid"] == gen.MODEL_UID

    async def test_one_that_carries_our_labels_is_left_alone_too(self) -> None:
        world = World()
        metadata = {**STRANGER["metadata"], "labels": {"app.kubernetes.io/managed-by": "serval-operator"}}
        before = world.api.put(SERVICES, {**STRANGER, "metadata": metadata})
        await world.reconcile()
        assert world.told()[1] == "ResourceConflict"
        assert world.stored(SERVICES) == before

    async def test_that_took_a_childs_place_unseen_is_not_adopted(self) -> None:
        """The watch is behind: the apply carries the uid that was seen, so the API server refuses it."""
        world = World()
        await world.reconcile()
        world.deaf = True
        world.api.remove(DEPLOYMENTS, *PLACE)
        before = world.api.put(DEPLOYMENTS, STRANGER)
        world.deaf = False
        world.edit_spec(replicas=3)
        with pytest.raises(Conflict):
            await world.reconcile()
        assert world.stored(DEPLOYMENTS) == before

    async def test_children_of_a_predecessor_of_the_same_name_are_waited_out(self) -> None:
        world = World()
        await world.reconcile()
        world.deaf = True  # the garbage collector is slow
        world.api.remove(MODEL_DEPLOYMENTS, *PLACE)
        world.deaf = False
        world.api.put(MODEL_DEPLOYMENTS, gen.model(uid="another"))
        assert await world.reconcile() == RETRY_REFUSED
        assert world.told()[1] == "Progressing"
        assert "of a deleted ModelDeployment vision/digits is being removed" in world.told()[2]
        assert world.events == []
        world.collect_garbage()
        assert await world.reconcile() is None
        assert world.stored(DEPLOYMENTS)["metadata"]["ownerReferences"][0]["uid"] == "another"


class TestRefusal:
    @pytest.mark.parametrize("kind", [Forbidden, Invalid])
    async def test_is_told_and_tried_again(self, kind: type[KubeError]) -> None:
        world = World()
        words = 'admission webhook "x" denied the request:\n password=hunter2 is weak'
        world.fail(kind(403, "Forbidden", words), kind="Service", name=gen.MODEL)
        assert await world.reconcile() == RETRY_REFUSED
        told = 'Service/digits: admission webhook "x" denied the request: password=*** is weak'
        assert world.told() == ("False", "ChildRefused", told)
        assert world.events == [("Warning", "ChildRefused")]
        assert world.stored(DEPLOYMENTS)
        world.heal()
        assert await world.reconcile() is None
        assert world.told()[1] == "Progressing"
        assert world.events[1:] == [("Normal", "Recovered")]

    @pytest.mark.parametrize(
        "error", [Transient(503, "", "busy"), Conflict(409, "Conflict", "uid"), KubeError(404, "", "gone")]
    )
    async def test_what_may_pass_is_left_to_the_queue(self, error: KubeError) -> None:
        world = World()
        world.fail(error, kind="Deployment")
        with pytest.raises(type(error)):
            await world.reconcile()
        assert world.events == []
        assert world.told()[1] == "Progressing"

    async def test_a_failed_run_leaves_no_request_behind(self) -> None:
        """Else the next run could meet them."""
        world = World()
        release = asyncio.Event()
        world.fail(Transient(503, "", "busy"), kind="Deployment")
        slow = world.api.apply

        async def apply(resource: Any, manifest: Any) -> gen.Object:
            if resource is SERVICES:
                await release.wait()
            return await slow(resource, manifest)

        world.api.apply = apply  # type: ignore[method-assign]
        run = asyncio.create_task(world.reconcile())
        for _ in range(10):
            await asyncio.sleep(0)
        assert not run.done()
        release.set()
        with pytest.raises(Transient):
            await asyncio.wait_for(run, 5)
        assert world.stored(SERVICES, HEADLESS)


class TestDrift:
    @staticmethod
    def scale(obj: gen.Object) -> None:
        obj["spec"]["replicas"] = 9

    async def test_is_repaired_once(self) -> None:
        world = World()
        await world.reconcile()
        world.api.edit(DEPLOYMENTS, *PLACE, self.scale)
        assert await world.calls() == [("apply", "Deployment", gen.MODEL)]
        assert world.stored(DEPLOYMENTS)["spec"]["replicas"] == 1
        assert await world.calls() == []

    async def test_is_repaired_after_a_restart(self) -> None:
        world = World()
        await world.reconcile()
        world.api.edit(DEPLOYMENTS, *PLACE, self.scale)
        world.restarted()
        assert await world.calls() == [("apply", "Deployment", gen.MODEL)]
        assert await world.calls() == []

    async def test_others_may_own_fields_of_their_own(self) -> None:
        """No fight: their field stays, and costs one apply when it comes, and one after a restart."""
        world = World()
        await world.reconcile()
        world.api.edit(DEPLOYMENTS, *PLACE, lambda obj: obj["metadata"]["annotations"].update(note="theirs"))
        assert await world.calls() == [("apply", "Deployment", gen.MODEL)]
        assert await world.calls() == []
        world.restarted()
        assert await world.calls() == [("apply", "Deployment", gen.MODEL)]
        assert await world.calls() == []
        assert world.stored(DEPLOYMENTS)["metadata"]["annotations"]["note"] == "theirs"

    async def test_a_changed_status_is_none(self) -> None:
        world = World()
        await world.reconcile()
        world.api.set_status(DEPLOYMENTS, *PLACE, {"observedGeneration": 1, "replicas": 1})
        assert await world.calls() == []

    async def test_of_our_status_is_repaired(self) -> None:
        world = World()
        await world.reconcile()
        before = world.status
        world.api.set_status(MODEL_DEPLOYMENTS, *PLACE, {**before, "replicas": 9})
        assert await world.calls() == [("apply_status", "ModelDeployment", gen.MODEL)]
        assert world.status == before


class TestEnd:
    async def test_with_a_deletion_timestamp_nothing_is_sent(self) -> None:
        world = World()
        await world.reconcile()
        world.api.edit(MODEL_DEPLOYMENTS, *PLACE, gen.deleting)
        world.api.remove(SERVICES, gen.NAMESPACE, gen.MODEL)
        assert await world.calls() == []
        assert world.states[-1] is None

    async def test_of_a_model_that_is_gone(self) -> None:
        world = World()
        await world.reconcile()
        world.api.remove(MODEL_DEPLOYMENTS, *PLACE)
        assert await world.calls() == []
        assert world.states[-1] is None

    async def test_that_its_children_tell_of_first(self) -> None:
        """The children's watch is ahead of the owner's: nothing is created for an owner that is gone."""
        for end in (
            lambda world: world.api.remove(MODEL_DEPLOYMENTS, *PLACE),
            lambda world: world.api.edit(MODEL_DEPLOYMENTS, *PLACE, gen.deleting),
            lambda world: world.api.put(MODEL_DEPLOYMENTS, gen.model(uid="another")),
        ):
            world = World()
            await world.reconcile()
            world.deaf = True
            end(world)
            world.deaf = False
            for resource in (DEPLOYMENTS, CONTROLLER_REVISIONS):
                for one in world.api.objects(resource):
                    world.api.remove(resource, gen.NAMESPACE, one["metadata"]["name"])
            assert await world.calls() == [("list", "ModelDeployment", "")]
            assert world.api.objects(DEPLOYMENTS) == []

    async def test_while_a_question_is_answered(self) -> None:
        world = World(accelerator={"resourceName": "nvidia.com/gpu", "count": 1})
        supply = world.supply

        async def last(*args: Any, **options: Any) -> Supply:
            world.api.remove(MODEL_DEPLOYMENTS, *PLACE)
            return await supply(*args, **options)

        world.supply = last  # type: ignore[method-assign]
        world.restarted()
        assert await world.calls() == []

    async def test_that_cannot_be_looked_up_keeps_nothing_from_being_made(self) -> None:
        world = World()
        await world.reconcile()
        world.api.remove(DEPLOYMENTS, *PLACE)
        world.fail(Transient(503, "", "busy"), verb="list", kind="ModelDeployment")
        await world.reconcile()
        assert world.stored_deployment

    async def test_while_its_status_is_written(self) -> None:
        world = World(replicas=-1)
        world.deaf = True
        world.api.remove(MODEL_DEPLOYMENTS, *PLACE)
        assert await world.reconcile() is None
        assert world.events == []
        assert world.api.stored(MODEL_DEPLOYMENTS, *PLACE) is None

    async def test_a_successor_of_the_same_name_gets_its_own_status(self) -> None:
        """The API server writes a status whatever uid it is sent, but not one of an older version."""
        world = World()
        world.deaf = True
        world.api.remove(MODEL_DEPLOYMENTS, *PLACE)
        world.api.put(MODEL_DEPLOYMENTS, gen.model(uid="another", suspend=True))
        with pytest.raises(Conflict):
            await world.reconcile()
        assert world.stored(MODEL_DEPLOYMENTS)["status"] == {"observedGeneration": -1}
        assert world.events == []
        world.deaf = False
        world.collect_garbage()
        world.cache.store(MODEL_DEPLOYMENTS).observe("MODIFIED", world.stored(MODEL_DEPLOYMENTS))
        assert await world.reconcile() is None
        assert world.told()[:2] == ("True", "Suspended")
        assert world.events == [("Normal", "Suspended")]


class TestInvalidSpec:
    @pytest.mark.parametrize(
        ("fields", "reason"),
        [
            ({"replicas": -1}, "InvalidSpec"),
            ({"accelerator": {"profile": "moon"}}, "UnknownProfile"),
            ({"runtime": {"name": "moon"}}, "UnknownRuntime"),
            ({"runtime": {"name": "onnx"}}, "UnsupportedSpec"),
        ],
    )
    async def test_keeps_the_children_and_is_not_tried_again(
        self, fields: dict[str, Any], reason: str
    ) -> None:
        world = World()
        await world.reconcile()
        world.put_pod("digits-1", gen.ready())
        await world.reconcile()
        before = world.stored(DEPLOYMENTS)
        world.edit_spec(**fields)
        assert await world.reconcile() is None
        assert world.stored(DEPLOYMENTS) == before
        assert world.told()[:2] == ("False", reason)
        assert world.told("Stalled")[1] == reason
        assert world.told("Available")[0] == "True"
        assert world.status["modelSummary"] == "digits/3"
        assert await world.calls() == []

    async def test_from_the_start_makes_no_children(self) -> None:
        world = World(replicas=-1)
        assert await world.calls() == [("apply_status", "ModelDeployment", gen.MODEL)]
        assert world.events == [("Warning", "InvalidSpec")]


class TestEvents:
    async def test_one_for_each_change_of_reason(self) -> None:
        world = World()
        story: list[tuple[tuple[gen.Option, ...], list[tuple[str, str]]]] = [
            ((gen.starting(),), []),
            ((gen.unschedulable("no node"),), [("Warning", "Unschedulable")]),
            ((gen.unschedulable("no node at all"),), []),
            ((gen.starting(),), [("Normal", "Recovered")]),
            ((gen.loading(),), []),
            ((gen.server_crashed(1, "boom"),), [("Warning", "CrashLoop")]),
            ((gen.loading(last=gen.ended(1, "boom")),), []),
            ((gen.ready(last=gen.ended(1, "boom")),), [("Normal", "Serving")]),
            ((gen.ready(), gen.unready), []),
            ((gen.ready(),), [("Normal", "Serving")]),
        ]
        await world.reconcile()
        for options, expected in story:
            world.events.clear()
            world.put_pod("digits-1", *options)
            await world.reconcile()
            await world.reconcile()
            assert world.events == expected

    async def test_none_when_the_status_could_not_be_stored(self) -> None:
        world = World(replicas=-1)
        world.fail(Transient(500, "", "x"), verb="apply_status")
        with pytest.raises(Transient):
            await world.reconcile()
        assert world.events == []
        world.heal()
        await world.reconcile()
        assert world.events == [("Warning", "InvalidSpec")]


class TestMeter:
    async def test_pods_that_became_ready_count_once(self) -> None:
        world = World(replicas=2)
        await world.reconcile()
        world.put_pod("digits-1", gen.ready())
        world.put_pod("digits-2", gen.starting())
        await world.reconcile()
        assert len(world.became_ready) == 1
        assert world.became_ready[0].keys() == {"scheduling", "image", "fetch", "load"}
        for options in ((gen.ready(), gen.unready), (gen.ready(after=90),)):  # it wavers
            world.put_pod("digits-1", *options)
            await world.reconcile()
        assert len(world.became_ready) == 1
        world.put_pod("digits-2", gen.ready())
        await world.reconcile()
        assert len(world.became_ready) == 2

    async def test_pods_that_were_ready_before_the_start_do_not_count(self) -> None:
        world = World()
        await world.reconcile()
        world.put_pod("digits-1", gen.ready())
        world.put_pod("digits-2", gen.loading())
        world.restarted()
        await world.reconcile()
        assert world.became_ready == []
        world.put_pod("digits-2", gen.ready())
        await world.reconcile()
        assert len(world.became_ready) == 1

    async def test_nor_do_those_of_a_successor_of_the_same_name(self) -> None:
        world = World()
        await world.reconcile()
        model = world.stored(MODEL_DEPLOYMENTS)
        world.api.remove(MODEL_DEPLOYMENTS, *PLACE)
        await world.reconcile()
        world.api.put(MODEL_DEPLOYMENTS, model)
        world.put_pod("digits-1", gen.ready())
        await world.reconcile()
        assert world.became_ready == []

    async def test_a_pod_that_is_gone_is_forgotten(self) -> None:
        world = World()
        await world.reconcile()
        for _ in range(2):
            world.put_pod("digits-1", gen.ready())
            await world.reconcile()
            world.api.remove(PODS, gen.NAMESPACE, "digits-1")
            await world.reconcile()
        assert len(world.became_ready) == 2

    async def test_the_reason_of_every_run(self) -> None:
        world = World()
        await world.reconcile()
        world.put_pod("digits-1", gen.ready())
        await world.reconcile()
        assert world.states == ["Progressing", "Serving"]
