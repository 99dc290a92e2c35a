"""Revisions, as the reconciler keeps them, and going back to what served."""

from __future__ import annotations

from dataclasses import replace

import pytest

from serval_operator.api.resources import CONTROLLER_REVISIONS, MODEL_DEPLOYMENTS, PODS
from serval_operator.errors import Forbidden, Transient
from serval_operator.reconcile.controller import RETRY_REFUSED
from serval_operator.runtime.cache import Cache
from serval_operator.workload.revision_history import HISTORY
from support import gen
from support.watched import OWNERS
from unit.operator.configuration import CONFIGURATION
from unit.operator.kinds.model_deployment.world import World, roll, served

pytestmark = pytest.mark.unit

NOTHING = gen.fetch_failed(1, gen.fetch_failure("ModelNotFound", "nothing is there"))


def annotations(world: World, key: str) -> dict[str, str]:
    """Of a kept revision."""
    found: dict[str, str] = world.revisions[key]["metadata"].get("annotations") or {}
    return found


class TestRecord:
    async def test_keeps_what_the_pods_look_like_once(self) -> None:
        world = World()
        await world.reconcile()
        (record,) = world.revisions.values()
        assert record["revision"] == 1
        assert record["metadata"]["ownerReferences"][0]["uid"] == gen.MODEL_UID
        template = world.api.objects_of("Deployment")[0]["spec"]["template"]
        labels = dict(template["metadata"]["labels"])
        assert labels.pop("serval.dev/revision") == world.carried
        assert labels.pop("serval.dev/owner-uid") == gen.MODEL_UID
        kept = record["data"]["template"]
        assert kept == {**template, "metadata": {**template["metadata"], "labels": labels}}
        for _ in range(3):
            world.restarted()
            assert await world.calls() == []

    async def test_a_change_of_the_number_alone_makes_none(self) -> None:
        world = World()
        await world.reconcile()
        world.edit_spec(replicas=4, suspend=False)
        await world.reconcile()
        assert list(world.revisions) == [world.carried]

    async def test_marks_what_served_until_then(self) -> None:
        world = await served()
        old = world.carried
        assert "serval.dev/served" not in annotations(world, old)
        new = await roll(world, "high")
        assert annotations(world, old)["serval.dev/served"] == "true"
        assert world.status["servingRevision"] == new
        assert [one["revision"] for one in world.revisions.values()] == [1, 2]

    async def test_one_that_is_there_and_was_not_seen_is_no_failure(self) -> None:
        world = World()
        await world.reconcile()
        world.cache = Cache(OWNERS)
        world.cache.store(MODEL_DEPLOYMENTS).observe("ADDED", world.stored(MODEL_DEPLOYMENTS))
        world.restarted()
        calls = await world.calls()
        name = f"{gen.MODEL}-{world.carried}"
        assert [one for one in calls if one[2] == name] == [
            ("create", "ControllerRevision", name),
            ("get", "ControllerRevision", name),
        ]
        assert await world.calls() == []
        assert world.told()[1] == "Progressing"

    async def test_one_of_somebody_else_is_left_alone(self) -> None:
        world = World()
        await world.reconcile()
        name = f"{gen.MODEL}-{world.carried}"
        world.api.remove(CONTROLLER_REVISIONS, gen.NAMESPACE, name)
        before = world.api.put(
            CONTROLLER_REVISIONS, {"metadata": {"name": name, "namespace": gen.NAMESPACE}, "revision": 1}
        )
        assert await world.reconcile() == RETRY_REFUSED
        told = f"ControllerRevision/{name} exists and does not belong to this ModelDeployment"
        assert world.told() == ("False", "ResourceConflict", told)
        assert world.stored(CONTROLLER_REVISIONS, name) == before
        world.api.remove(CONTROLLER_REVISIONS, gen.NAMESPACE, name)
        await world.reconcile()
        assert world.told()[1] == "Progressing"

    async def test_a_refusal_is_told(self) -> None:
        world = World()
        world.fail(Forbidden(403, "Forbidden", "exceeded quota"), verb="create", kind="ControllerRevision")
        assert await world.reconcile() == RETRY_REFUSED
        told = f"ControllerRevision/digits-{world.carried}: exceeded quota"
        assert world.told() == ("False", "ChildRefused", told)

    async def test_a_failure_that_passes_is_left_to_the_queue(self) -> None:
        world = World()
        world.fail(Transient(503, "", "busy"), verb="create", kind="ControllerRevision")
        with pytest.raises(Transient):
            await world.reconcile()
        world.heal()
        await world.reconcile()
        assert list(world.revisions) == [world.carried]


class TestHistory:
    async def test_is_limited_and_the_oldest_go(self) -> None:
        world = World()
        await world.reconcile()
        keys = [world.carried]
        world.put_pod("digits-0", gen.ready())
        keys += [await roll(world, priority) for priority in "abcdefgh"]
        await world.reconcile()
        assert list(world.revisions) == keys[-HISTORY - 1 :]

    async def test_never_one_of_a_pod_that_is_still_there(self) -> None:
        world = World()
        await world.reconcile()
        first = world.carried
        for priority in "abcdefgh":
            await roll(world, priority)
            # It does not end, as on a node that was lost.
            world.put_pod("digits-stuck", gen.ready(), gen.deleting, revision=first)
            await world.reconcile()
        assert first not in world.revisions  # it had gone before the pod was seen
        kept = world.carried
        world.put_pod("digits-stuck", gen.ready(), gen.deleting, revision=kept)
        for priority in "ijklmn":
            world.edit_spec(scheduling={"priorityClassName": priority})
            await world.reconcile()
        assert kept in world.revisions
        world.api.remove(PODS, gen.NAMESPACE, "digits-stuck")
        await world.reconcile()
        assert kept in world.revisions  # it served last
        assert len(world.revisions) == HISTORY + 2

    async def test_never_one_that_the_deployment_still_carries(self) -> None:
        """Its change is refused, and no pod of it runs that would speak for it."""
        world = World()
        await world.reconcile()
        carried = world.carried
        world.fail(Forbidden(403, "Forbidden", "no"), kind="Deployment")
        for priority in "abcdefgh":
            world.edit_spec(scheduling={"priorityClassName": priority})
            await world.reconcile()
        assert world.carried == carried
        assert carried in world.revisions

    async def test_a_failure_to_drop_one_costs_nothing(self) -> None:
        world = World()
        await world.reconcile()
        for priority in "abcdef":
            world.fail(Transient(500, "", "x"), verb="delete")
            world.edit_spec(scheduling={"priorityClassName": priority})
            await world.reconcile()
            assert world.told()[1] == "Progressing"
        assert len(world.revisions) == 7
        world.heal()
        await world.reconcile()
        assert len(world.revisions) == HISTORY + 1


class TestUpgrade:
    """What the operator would render otherwise today restarts nothing by itself."""

    @staticmethod
    def upgraded(world: World, image: str) -> None:
        runtimes = dict(CONFIGURATION.runtimes)
        runtimes["serval"] = replace(runtimes["serval"], images={"default": image})
        world.configuration = replace(CONFIGURATION, runtimes=runtimes)
        world.restarted()

    async def test_says_so_and_writes_to_no_child(self) -> None:
        world = await served()
        before = world.api.objects_of("Deployment")
        self.upgraded(world, "registry.example/serval-server:2")
        assert await world.calls() == [("apply_status", "ModelDeployment", gen.MODEL)]
        assert world.api.objects_of("Deployment") == before
        assert world.told("UpdateAvailable")[:2] == ("True", "RuntimeChanged")
        assert world.told()[:2] == ("True", "Serving")
        assert await world.calls() == []

    async def test_a_scaled_one_keeps_its_pods_too(self) -> None:
        world = await served()
        before = world.api.objects_of("Deployment")[0]["spec"]["template"]
        self.upgraded(world, "registry.example/serval-server:2")
        world.edit_spec(replicas=2)
        await world.reconcile()
        (deployment,) = world.api.objects_of("Deployment")
        assert deployment["spec"]["replicas"] == 2
        assert deployment["spec"]["template"] == before

    async def test_a_trigger_rolls_it(self) -> None:
        world = await served()
        old = world.carried
        self.upgraded(world, "registry.example/serval-server:2")
        await world.reconcile()
        world.edit_spec(rollout={"trigger": "2026-01-02"})
        await world.reconcile()
        assert world.carried != old
        (deployment,) = world.api.objects_of("Deployment")
        (server,) = deployment["spec"]["template"]["spec"]["containers"]
        assert server["image"] == "registry.example/serval-server:2"
        with pytest.raises(KeyError):
            world.told("UpdateAvailable")

    async def test_what_was_rendered_anew_again_is_up_to_date(self) -> None:
        world = await served()
        self.upgraded(world, "registry.example/serval-server:2")
        await world.reconcile()
        self.upgraded(world, "registry.example/serval-server:1")
        await world.reconcile()
        with pytest.raises(KeyError):
            world.told("UpdateAvailable")

    async def test_one_without_a_record_is_rolled_by_nothing_but_the_spec(self) -> None:
        """Its ControllerRevision was deleted by hand: what is made anew is what would be rendered now."""
        world = await served()
        key = world.carried
        world.api.remove(CONTROLLER_REVISIONS, gen.NAMESPACE, f"{gen.MODEL}-{key}")
        await world.reconcile()
        assert list(world.revisions) == [key]
        assert await world.calls() == []


class TestGiveUp:
    async def broken(self) -> tuple[World, str, str]:
        """A rollout whose model is not there: the world, what served, and what does not."""
        world = await served()
        old = world.carried
        world.edit_spec(scheduling={"priorityClassName": "high"})
        await world.reconcile()
        new = world.carried
        world.put_pod("digits-new", NOTHING)
        return world, old, new

    async def test_writes_the_reason_once_and_goes_back(self) -> None:
        world, old, new = await self.broken()
        calls = await world.calls()
        assert calls.count(("merge", "ControllerRevision", f"{gen.MODEL}-{new}")) == 1
        assert annotations(world, new)["serval.dev/failed-reason"] == "ModelNotFound"
        assert annotations(world, new)["serval.dev/failed-message"] == "nothing is there"
        await world.reconcile()
        assert world.carried == old
        text = (
            f"revision {new} failed and revision {old} serves again; to try again, change the spec or give "
            "`spec.rollout.trigger` a new value: nothing is there"
        )
        assert world.told() == ("False", "ModelNotFound", text)
        assert world.told("Available")[0] == "True"
        world.api.remove(PODS, gen.NAMESPACE, "digits-new")
        await world.reconcile()
        assert world.told()[1:] == ("ModelNotFound", text)
        assert await world.calls() == []
        world.restarted()
        assert await world.calls() == []

    async def test_is_stalled_whatever_the_reason(self) -> None:
        """Flux and `helm --wait` must not wait for what is not tried again."""
        world = await served()
        world.edit_spec(scheduling={"priorityClassName": "high"})
        await world.reconcile()
        worn = gen.server_crashed(1, "boom")

        def restarted(obj: gen.Object) -> None:
            worn(obj)
            obj["status"]["containerStatuses"][0]["restartCount"] = 3

        world.put_pod("digits-new", restarted)
        for _ in range(2):
            await world.reconcile()
        assert world.told()[1] == "CrashLoop"
        assert world.told("Stalled")[:2] == ("True", "CrashLoop")
        with pytest.raises(KeyError):
            world.told("Reconciling")

    async def test_the_same_spec_is_tried_again_after_another_one(self) -> None:
        world, old, new = await self.broken()
        for _ in range(2):
            await world.reconcile()
        world.edit_spec(replicas=2)
        await world.reconcile()
        assert world.carried == old, "scaling alone tries nothing again"
        world.edit_spec(scheduling={}, replicas=1)
        await world.reconcile()
        assert "serval.dev/failed-reason" not in annotations(world, new)
        world.api.remove(PODS, gen.NAMESPACE, "digits-new")
        world.edit_spec(scheduling={"priorityClassName": "high"})
        await world.reconcile()
        assert world.carried == new
        assert world.told()[1] == "Progressing"
        world.put_pod("digits-new", gen.ready())
        world.api.remove(PODS, gen.NAMESPACE, "digits-old")
        await world.reconcile()
        assert world.told()[1] == "Serving"
        assert await world.calls() == []

    async def test_a_mark_does_not_outlive_the_wish_to_go_back(self) -> None:
        world, _, new = await self.broken()
        for _ in range(2):
            await world.reconcile()
        world.edit_spec(rollout={"onFailure": "Hold"})
        await world.reconcile()
        assert world.carried == new
        world.put_pod("digits-new", gen.fetch_running())
        world.edit_spec(rollout={"onFailure": "Revert"})
        await world.reconcile()
        assert world.carried == new, "it went back for a failure of the past"

    async def test_asks_to_be_called_again_at_once_and_only_then(self) -> None:
        world, _, _ = await self.broken()
        assert await world.reconcile() == 0.0
        for _ in range(3):
            assert await world.reconcile() != 0.0
        world.api.remove(PODS, gen.NAMESPACE, "digits-new")
        assert await world.reconcile() is None

    async def test_holds_where_nobody_would_go_back(self) -> None:
        world, _, new = await self.broken()
        world.edit_spec(rollout={"onFailure": "Hold"})
        for _ in range(3):
            await world.reconcile()
        assert world.carried == new
        assert annotations(world, new) == {}
        assert world.told() == ("False", "ModelNotFound", "1 of 1 pods: nothing is there")

    async def test_another_change_is_tried(self) -> None:
        world, old, new = await self.broken()
        for _ in range(3):
            await world.reconcile()
        world.edit_spec(scheduling={"priorityClassName": "higher"})
        await world.reconcile()
        assert world.carried not in (old, new)

    async def test_a_record_that_is_gone_is_no_reason_to_run_hot(self) -> None:
        world, _, new = await self.broken()
        world.deaf = True
        world.api.remove(CONTROLLER_REVISIONS, gen.NAMESPACE, f"{gen.MODEL}-{new}")
        assert await world.reconcile() != 0.0
        assert world.told()[1] == "ModelNotFound"
