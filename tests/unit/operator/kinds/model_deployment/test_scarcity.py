"""What a ModelDeployment says while its pods wait for devices, and how its changes go out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from serval_operator.api.device_holders import PodHold
from serval_operator.api.resources import DISRUPTION_BUDGETS, MODEL_DEPLOYMENTS, NODES, PODS
from serval_operator.cluster.capacity import Growth, Supply
from serval_operator.runtime.publisher import WORDS_EVERY
from serval_operator.workload.rollout_decider import WAITING_AGAIN
from support import gen
from unit.operator.kinds.model_deployment.world import KEY, PLACE, World

pytestmark = pytest.mark.unit

NO_DEVICE = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
WAITS = gen.unschedulable(NO_DEVICE)
GPU = {"profile": "nvidia-gpu"}


def gpus(free: int = 0, held: int = 0, **spec: object) -> World:
    """A ModelDeployment with a device in each pod, and a node with so many devices."""
    world = World(accelerator=GPU, **spec)
    world.put_node("gpu-0", gpu=free + held)
    hold(world, held)
    return world


def hold(world: World, count: int, name: str = "stranger") -> None:
    """Somebody holds so many devices of the node."""
    holds = (PodHold("other", name, "gpu-0", None, {"nvidia.com/gpu": count}),) if count else ()
    world.offered = replace(world.offered, holds=holds)


async def waiting(held: int = 1, replicas: int = 1, **spec: object) -> World:
    """A pod waits for a device that somebody holds."""
    world = gpus(held=held, replicas=replicas, **spec)
    await world.reconcile()
    world.put_pod("digits-1", WAITS)
    await world.reconcile()
    return world


class TestFirst:
    async def test_a_device_that_is_held_is_waited_for(self) -> None:
        world = gpus(held=1)
        assert await world.reconcile() is None
        assert world.stored_deployment["spec"]["replicas"] == 1
        assert world.asked == [("nodes",)]
        assert world.told()[1] == "Progressing"

    async def test_a_device_that_there_is_nowhere_makes_no_pod(self) -> None:
        world = World(accelerator=GPU)
        assert await world.reconcile() == WAITING_AGAIN
        assert world.stored_deployment["spec"]["replicas"] == 0
        assert world.told()[:2] == ("False", "NoNodeOffersResource")
        assert world.told("AcceleratorAvailable")[0] == "False"
        assert world.status["replicasSummary"] == "0/1"
        assert KEY in world.reconciler.waiting()
        assert world.events == [("Warning", "NoNodeOffersResource")]

    async def test_until_there_is_one(self) -> None:
        world = World(accelerator=GPU)
        await world.reconcile()
        world.put_node("gpu-0", gpu=1)
        await world.reconcile()
        assert world.stored_deployment["spec"]["replicas"] == 1
        assert world.told()[1] == "Progressing"
        assert KEY not in world.reconciler.waiting()

    @pytest.mark.parametrize(("wish", "replicas"), [("Wait", 1), ("Refuse", 0), ("Auto", 0)])
    async def test_as_the_user_asks(self, wish: str, replicas: int) -> None:
        world = World(accelerator={**GPU, "whenUnavailable": wish})
        await world.reconcile()
        assert world.stored_deployment["spec"]["replicas"] == replicas

    async def test_where_nodes_may_not_be_seen_pods_are_made(self) -> None:
        world = World(accelerator={**GPU, "whenUnavailable": "Refuse"})
        world.offered = Supply(nodes=None)
        await world.reconcile()
        assert world.stored_deployment["spec"]["replicas"] == 1

    async def test_a_verdict_takes_no_running_pod_away(self) -> None:
        world = gpus(free=1)
        await world.reconcile()
        world.put_pod("digits-1", gen.ready())
        await world.reconcile()
        world.api.remove(NODES, "", "gpu-0")
        world.asked.clear()
        assert await world.calls() == []
        assert world.asked == []
        assert world.stored_deployment["spec"]["replicas"] == 1
        assert world.told()[:2] == ("True", "Serving")

    async def test_without_a_device_nobody_asks(self) -> None:
        world = World()
        await world.reconcile()
        world.put_pod("digits-1", gen.unschedulable("0/1 nodes are available: 1 Insufficient cpu."))
        await world.reconcile()
        assert world.asked == []
        assert "accelerator" not in world.status


class TestTurns:
    async def test_on_fixed_nodes_one_that_waits_has_no_pods(self) -> None:
        world = await waiting()
        assert world.stored_deployment["spec"]["replicas"] == 0
        assert "position 1 of 1 in the queue" in world.told()[2]

    async def test_and_gets_them_one_after_the_other(self) -> None:
        world = await waiting(held=2, replicas=2)
        world.put_pod("digits-2", WAITS)
        await world.reconcile()
        for name in ("digits-1", "digits-2"):
            world.api.remove(PODS, gen.NAMESPACE, name)
        for held, replicas in ((2, 0), (1, 1), (0, 2)):
            hold(world, held)
            await world.reconcile()
            assert world.stored_deployment["spec"]["replicas"] == replicas

    async def test_it_asks_for_pods_alone_and_for_nothing_else(self) -> None:
        world = await waiting()
        world.api.remove(PODS, gen.NAMESPACE, "digits-1")
        await world.reconcile()
        assert await world.calls() == []

    async def test_what_was_taken_is_remembered_while_the_spec_cannot_be_used(self) -> None:
        world = gpus(held=0)
        record = {"generation": 1, "kind": "ModelDeployment", "name": "x", "uid": "u", "targetGeneration": 3}
        world.api.edit(
            MODEL_DEPLOYMENTS, *PLACE, lambda obj: obj["status"].update(replacement=record), manager="us"
        )
        await world.reconcile()
        assert world.status["replacement"] == record
        world.edit_spec(accelerator={"profile": "none"})
        await world.reconcile()
        assert world.told()[1] == "UnknownProfile"
        assert world.status["replacement"] == record


class TestNoPods:
    """Of an object that wants no pods, nothing depends on what is free."""

    @pytest.mark.parametrize("spec", [{"suspend": True}, {"replicas": 0}])
    async def test_of_one_whose_pod_waits(self, spec: dict[str, object]) -> None:
        world = await waiting(rollout={"strategy": "Surge"})
        world.edit_spec(**spec)
        world.asked.clear()
        await world.reconcile()
        assert world.asked == []
        assert world.stored_deployment["spec"]["replicas"] == 0

    @pytest.mark.parametrize("spec", [{"suspend": True}, {"replicas": 0}])
    async def test_of_one_that_is_changed_too(self, spec: dict[str, object]) -> None:
        world = gpus(held=1)
        await world.reconcile()
        world.put_pod("digits-1", gen.ready())
        await world.reconcile()
        world.edit_spec(**spec, scheduling={"priorityClassName": "high"})
        world.asked.clear()
        await world.reconcile()
        assert world.asked == []
        assert world.stored_deployment["spec"]["replicas"] == 0


class TestWaiting:
    async def test_names_who_holds_it(self) -> None:
        world = await waiting()
        words = "no node has 1 nvidia.com/gpu free (0 of 1 nvidia.com/gpu free); held by other/stranger"
        assert world.told()[:2] == ("False", "AcceleratorBusy")
        assert words in world.told()[2]
        assert world.asked[-1] == ("holds", "digits-1")
        assert world.status["accelerator"] == {
            "resourceName": "nvidia.com/gpu",
            "requested": 1,
            "free": 0,
            "position": 1,
            "holders": [
                {"kind": "Pod", "namespace": "other", "name": "stranger", "node": "gpu-0", "count": 1}
            ],
        }
        assert KEY in world.reconciler.waiting()

    async def test_looks_again_by_itself(self) -> None:
        world = await waiting()
        assert await world.reconcile() == WAITING_AGAIN

    async def test_heals(self) -> None:
        world = await waiting()
        world.put_pod("digits-1", gen.ready())
        await world.reconcile()
        assert world.told()[:2] == ("True", "Serving")
        assert world.told("AcceleratorAvailable")[:2] == ("True", "Done")
        assert "accelerator" not in world.status
        assert KEY not in world.reconciler.waiting()

    async def test_a_node_that_comes_is_told(self) -> None:
        world = await waiting()
        world.offered = replace(world.offered, growth=Growth(coming="a node is on its way"))
        await world.reconcile()
        assert world.told()[1] == "ScaleUpPending"

    async def test_a_pod_that_is_gone_waits_no_more(self) -> None:
        world = await waiting()
        world.edit_spec(suspend=True)
        world.api.remove(PODS, gen.NAMESPACE, "digits-1")
        assert await world.reconcile() is None
        assert "accelerator" not in world.status
        assert KEY not in world.reconciler.waiting()


class TestWords:
    """Who holds devices changes with any pod of the cluster: that alone is told rarely."""

    async def test_that_alone_change_wait(self) -> None:
        world = await waiting(2)
        before = world.status
        hold(world, 2, "newcomer")
        world.seconds += 1
        assert await world.calls() == []
        assert await world.reconcile() == WORDS_EVERY - 1
        assert world.status == before
        world.seconds += WORDS_EVERY - 1
        assert await world.calls() == [("apply_status", "ModelDeployment", gen.MODEL)]
        assert "newcomer" in world.told()[2]

    async def test_wait_no_longer_however_often_they_change(self) -> None:
        world = await waiting(1)
        written = len(world.api.writes())
        for number in range(60):
            world.seconds += 1
            hold(world, 1, f"s{number}")
            await world.reconcile()
        assert len(world.api.writes()) - written == 60 // WORDS_EVERY

    async def test_of_an_autoscaler_are_told_at_once(self) -> None:
        """Where no node has the device, nobody holds one: what changes are the orders for nodes."""
        world = World(accelerator={**GPU, "whenUnavailable": "Wait"})
        await world.reconcile()
        world.put_pod("digits-1", WAITS)
        world.offered = replace(world.offered, growth=Growth(possible="a node may be added"))
        await world.reconcile()
        assert world.told()[1] == "ScaleUpPending"
        assert "may be added" in world.told()[2]
        world.offered = replace(world.offered, growth=Growth(coming="a node is on its way"))
        world.seconds += 1
        await world.reconcile()
        assert "a node is on its way" in world.told()[2]

    async def test_with_a_change_of_anything_else_are_told_at_once(self) -> None:
        world = await waiting(2, replicas=2)
        world.seconds += 1
        world.put_pod("digits-2", WAITS)
        hold(world, 2, "newcomer")
        await world.reconcile()
        assert world.status["replicas"] == 2
        assert "newcomer" in world.told()[2]
        world.seconds += 1
        world.offered = replace(world.offered, growth=Growth(coming="a node is on its way"))
        await world.reconcile()
        assert world.told()[1] == "ScaleUpPending"

    async def test_after_a_restart_are_told_at_once(self) -> None:
        world = await waiting(2)
        hold(world, 2, "newcomer")
        world.restarted()
        await world.reconcile()
        assert "newcomer" in world.told()[2]

    async def test_about_other_things_are_told_at_once(self) -> None:
        world = World()
        await world.reconcile()
        for words in ("one", "two"):
            world.put_pod("digits-1", gen.unschedulable(words))
            await world.reconcile()
            assert world.told() == ("False", "Unschedulable", f"1 of 1 pods: {words}")


class TestRollout:
    async def serving(self, *, free: int) -> World:
        world = gpus(free=free, held=1)
        await world.reconcile()
        world.put_pod("digits-1", gen.ready())
        await world.reconcile()
        world.asked.clear()
        world.edit_spec(scheduling={"priorityClassName": "high"})
        return world

    @pytest.mark.parametrize(("free", "strategy", "surge"), [(1, "Surge", 1), (0, "InPlace", 0)])
    async def test_goes_out_as_devices_allow(self, free: int, strategy: str, surge: int) -> None:
        world = await self.serving(free=free)
        await world.reconcile()
        assert world.asked == [("fresh",)]
        assert world.stored_deployment["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == surge
        assert world.status["effective"]["strategy"] == strategy
        assert await world.calls() == []

    async def test_asks_once_and_not_while_it_goes_on(self) -> None:
        world = await self.serving(free=1)
        old = world.carried
        await world.reconcile()
        world.put_pod("digits-2", gen.starting())
        world.asked.clear()
        hold(world, 2)
        await world.reconcile()
        await world.reconcile()
        assert world.asked == []
        assert world.stored_deployment["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 1
        assert world.carried != old

    async def test_goes_on_in_place_when_its_pod_finds_no_device(self) -> None:
        world = await self.serving(free=1)
        await world.reconcile()
        world.put_pod("digits-2", WAITS)
        hold(world, 2)
        await world.reconcile()
        assert world.stored_deployment["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 0
        assert world.told("Available")[0] == "True"

    async def test_stops_nothing_before_it_knows_that_no_device_is_free(self) -> None:
        world = await self.serving(free=0)
        world.offered = Supply(nodes=None)
        await world.reconcile()
        rolling = world.stored_deployment["spec"]["strategy"]["rollingUpdate"]
        assert rolling["maxSurge"] == 1
        world.put_pod("digits-2", WAITS)
        await world.reconcile()
        rolling = world.stored_deployment["spec"]["strategy"]["rollingUpdate"]
        assert rolling["maxSurge"] == 0

    async def test_a_place_that_is_waited_for_is_progress(self) -> None:
        world = await self.serving(free=0)
        old = world.carried
        await world.reconcile()
        world.put_pod("digits-1", gen.ready(), gen.deleting, revision=old)
        world.put_pod("digits-2", WAITS)
        await world.reconcile()
        assert world.told()[1] == "Progressing"
        assert "accelerator" not in world.status


class TestStuck:
    """A rollout surges, and its new pod finds no place though a device is free."""

    NO_MEMORY = "0/1 nodes are available: 1 Insufficient memory."

    async def surging(self, words: str = NO_MEMORY, **spec: object) -> World:
        """The new pod is as old as the world, whose time begins at 0."""
        world = World(**spec)
        world.put_node("gpu-0", gpu=2)
        world.seconds = 0.0
        await world.reconcile()
        world.put_pod("digits-1", gen.ready())
        await world.reconcile()
        world.edit_spec(scheduling={"priorityClassName": "high"})
        await world.reconcile()
        world.put_pod("digits-2", gen.unschedulable(words))
        world.asked.clear()
        return world

    @staticmethod
    def surge(world: World) -> int:
        return int(world.stored_deployment["spec"]["strategy"]["rollingUpdate"]["maxSurge"])

    @pytest.mark.parametrize("spec", [{"accelerator": GPU}, {}], ids=["device", "none"])
    async def test_goes_on_in_place_after_a_while(self, spec: dict[str, object]) -> None:
        world = await self.surging(**spec)
        world.seconds = 10.0
        assert await world.reconcile() == 20.0
        assert self.surge(world) == 1
        world.seconds = 30.0
        await world.reconcile()
        assert self.surge(world) == 0
        assert world.told("Available")[0] == "True"

    async def test_asks_for_no_devices_where_it_holds_none(self) -> None:
        world = await self.surging()
        world.seconds = 30.0
        await world.reconcile()
        assert world.asked == [("nodes", "digits-2")]

    @pytest.mark.parametrize("spec", [{"accelerator": GPU}, {}], ids=["device", "none"])
    async def test_waits_for_a_node_that_comes(self, spec: dict[str, object]) -> None:
        world = await self.surging(**spec)
        world.offered = replace(world.offered, growth=Growth(coming="pod triggered scale-up"))
        world.seconds = 30.0
        await world.reconcile()
        assert self.surge(world) == 1
        world.offered = replace(world.offered, growth=Growth())
        await world.reconcile()
        assert self.surge(world) == 0

    @pytest.mark.parametrize("spec", [{"accelerator": GPU}, {}], ids=["device", "none"])
    async def test_stops_no_pod_on_a_node_that_takes_none(self, spec: dict[str, object]) -> None:
        """Another node lacks memory; that of the old pod is being drained."""
        world = await self.surging(**spec)
        world.api.edit(NODES, "", "gpu-0", lambda node: node["spec"].update(unschedulable=True), manager="me")
        world.seconds = 300.0
        await world.reconcile()
        assert self.surge(world) == 1


class TestLostNode:
    """A predecessor stays in Terminating, since its node does not report any more."""

    async def replacing(self) -> World:
        world = gpus(free=1)
        await world.reconcile()
        world.put_pod("digits-1", gen.ready(), gen.node_lost, gen.stopping(until=120))
        world.put_pod("digits-2", WAITS)
        held = PodHold(gen.NAMESPACE, "digits-1", "gpu-0", KEY, {"nvidia.com/gpu": 1}, deleting=True)
        world.offered = replace(world.offered, holds=(held,))
        world.seconds = 100.0
        await world.reconcile()
        assert world.told()[1] == "Progressing"
        return world

    @pytest.mark.parametrize("restart", [False, True])
    async def test_is_named_as_what_holds_the_device(self, *, restart: bool) -> None:
        world = await self.replacing()
        world.seconds = 7200.0
        if restart:
            world.restarted()
        assert await world.reconcile() == WAITING_AGAIN
        assert world.told()[:2] == ("False", "AcceleratorBusy")
        assert "held by vision/digits (1 on gpu-0, its pod digits-1 is Terminating)" in world.told()[2]
        assert world.status["accelerator"]["holders"][0]["name"] == gen.MODEL
        assert KEY in world.reconciler.waiting()

    async def test_the_node_is_named_too(self) -> None:
        world = await self.replacing()
        not_ready = {"conditions": [{"type": "Ready", "status": "Unknown"}]}
        world.api.edit(NODES, "", "gpu-0", lambda node: node["status"].update(not_ready), manager="me")
        world.seconds = 7200.0
        await world.reconcile()
        assert world.told()[:2] == ("False", "DeviceNotReady")
        assert "gpu-0 is not ready (in Terminating there: vision/digits-1)" in world.told()[2]

    async def test_a_rollout_does_not_wait_for_it(self) -> None:
        """Its pod beside the others takes the place of one that still can stop."""
        world = gpus(free=2, replicas=2)
        await world.reconcile()
        world.put_pod("digits-1", gen.ready())
        world.put_pod("digits-2", gen.ready())
        await world.reconcile()
        old = world.carried
        world.edit_spec(scheduling={"priorityClassName": "high"})
        await world.reconcile()
        world.put_pod("digits-1", gen.ready(), gen.stopping(until=60), revision=old)
        world.put_pod("digits-3", WAITS)
        hold(world, 2)
        await world.reconcile()
        assert TestStuck.surge(world) == 1
        world.seconds = 75.0
        await world.reconcile()
        assert TestStuck.surge(world) == 0


class TestDrain:
    """Two replicas on the only node that can take them, which is drained."""

    @staticmethod
    def most(world: World) -> object:
        return world.stored(DISRUPTION_BUDGETS)["spec"]["maxUnavailable"]

    async def drained(self, **spec: object) -> World:
        """The first pod is evicted, and its successor finds no node."""
        world = gpus(free=2, replicas=2, **spec)
        await world.reconcile()
        world.put_pod("digits-1", gen.ready())
        world.put_pod("digits-2", gen.ready())
        await world.reconcile()
        assert self.most(world) == 1
        world.put_pod("digits-1", gen.ready(), gen.stopping(until=130))
        world.put_pod("digits-3", WAITS, created=60)
        await world.reconcile()
        world.seconds = 70.0
        world.api.remove(PODS, gen.NAMESPACE, "digits-1")
        await world.reconcile()
        return world

    async def test_the_second_pod_may_be_evicted_when_the_first_has_found_no_place(self) -> None:
        world = await self.drained()
        world.seconds = 89.0
        assert await world.reconcile() is not None
        assert self.most(world) == 1
        world.seconds = 90.0
        await world.reconcile()
        assert self.most(world) == 2

    async def test_the_budget_is_written_once_and_once_again(self) -> None:
        world = await self.drained()
        world.seconds = 90.0
        await world.reconcile()
        before = len(world.api.writes())
        world.put_pod("digits-2", gen.ready(), gen.stopping(until=160))
        world.put_pod("digits-4", WAITS, created=91)
        await world.reconcile()
        world.seconds = 100.0
        world.api.remove(PODS, gen.NAMESPACE, "digits-2")
        for later in (100.0, 101.0, 103.0, 121.0, 200.0):
            world.seconds = later
            await world.reconcile()
        budgets = [one for one in world.api.writes()[before:] if one.resource is DISRUPTION_BUDGETS]
        assert (budgets, self.most(world)) == ([], 2)
        world.put_pod("digits-3", gen.starting(), created=60)
        world.put_pod("digits-4", gen.starting(), created=91)
        await world.reconcile()
        assert self.most(world) == 1

    async def test_a_rollout_in_place_changes_nothing(self) -> None:
        world = gpus(free=1, replicas=2, rollout={"strategy": "InPlace"})
        await world.reconcile()
        world.put_pod("digits-1", gen.ready())
        await world.reconcile()
        world.put_pod("digits-2", gen.ready(), gen.stopping(until=125))
        world.put_pod("digits-3", WAITS, created=60)
        for later in (60.0, 90.0, 125.0):
            world.seconds = later
            await world.reconcile()
            assert self.most(world) == 1


class TestRefused:
    async def test_pods_are_damped_and_tried_again(self) -> None:
        world = gpus(free=1)
        await world.reconcile()
        for number in range(3):
            world.put_pod(f"digits-{number}", gen.refused())
        world.seconds = 5.0
        assert await world.reconcile() == 25.0
        assert world.stored_deployment["spec"]["replicas"] == 0
        assert world.told()[:2] == ("False", "DeviceAllocationFailed")
        assert world.told()[2].startswith("0 of 1 pods were accepted; others are tried after pauses: ")
        world.seconds = 30.0
        await world.reconcile()
        assert world.stored_deployment["spec"]["replicas"] == 1
        world.put_pod("digits-9", gen.ready(), created=30)
        await world.reconcile()
        assert world.told()[:2] == ("True", "Serving")
        assert len(world.api.objects(PODS)) == 1
