"""Gathering: when the events of a silent pod are read, and how often."""

from __future__ import annotations

import pytest

from serval_operator.api.naming import Key
from serval_operator.api.resources import EVENTS, MODEL_DEPLOYMENTS, PODS
from serval_operator.api.snapshots import parse_pod
from serval_operator.errors import Forbidden, KubeError, Transient
from serval_operator.pods.event_reader import (
    PODS_PER_LOOK,
    READS_PER_SECOND,
    READS_WHILE_FAILING,
    EventReader,
)
from serval_operator.reconcile.gatherer import OVERRUN
from serval_operator.workload.rollout_decider import WAITING_AGAIN
from support import gen
from support.fakes import FakeKubeApi
from unit.operator.kinds.model_deployment.world import PLACE, World

pytestmark = pytest.mark.unit

NO_IP = "failed to setup network for sandbox"


async def silent_world(*, now: float, pods: int = 1) -> World:
    """A ModelDeployment whose pods were placed one second after the start, and say nothing since."""
    world = World(replicas=pods)
    await world.reconcile()
    for number in range(1, pods + 1):
        world.put_pod(f"digits-{number}", gen.starting())
    world.seconds = now
    return world


async def looked_often(world: World) -> None:
    """Six looks at silent pods, each when it is due."""
    for _ in range(6):
        pause = await world.reconcile()
        assert pause is not None
        world.seconds += pause


async def reads(world: World) -> int:
    """How many times events are read by one reconcile."""
    return sum(call[:2] == ("list", "Event") for call in await world.calls())


class TestWhen:
    async def test_not_before_two_seconds_have_passed(self) -> None:
        world = await silent_world(now=2.0)
        assert await world.reconcile() == pytest.approx(1.0)
        assert await reads(world) == 0

    async def test_after_that(self) -> None:
        world = await silent_world(now=3.0)
        world.api.put(EVENTS, gen.warning("FailedCreatePodSandBox", NO_IP))
        assert await world.reconcile() == 2.0
        assert world.told() == ("False", "SandboxFailed", f"1 of 1 pods: {NO_IP}")

    async def test_for_each_silent_pod_alone(self) -> None:
        world = await silent_world(now=10, pods=3)
        world.put_pod("digits-3", gen.loading())
        assert await reads(world) == 2

    async def test_events_of_others_do_not_matter(self) -> None:
        world = await silent_world(now=10)
        world.api.put(EVENTS, gen.warning("FailedCreatePodSandBox", NO_IP, of="other-1"))
        world.api.put(EVENTS, {**gen.warning("FailedMount", "x"), "type": "Normal"})
        await world.reconcile()
        assert world.told()[1] == "Progressing"

    @pytest.mark.parametrize(
        ("options", "again"),
        [
            ((gen.unschedulable("x"),), WAITING_AGAIN),
            ((gen.sandbox_ready,), 1791.0),
            ((gen.fetch_running(),), 1791.0),
            ((gen.ready(),), None),
            ((gen.refused(),), None),
        ],
        ids=["unschedulable", "sandbox ready", "fetching", "ready", "refused"],
    )
    async def test_not_of_pods_that_speak(self, options: tuple[gen.Option, ...], again: float | None) -> None:
        """The next look is at the deadline then, which began a second after the start, or at free devices."""
        world = await silent_world(now=10)
        world.put_pod("digits-1", *options)
        assert await reads(world) == 0
        assert await world.reconcile() == again

    async def test_not_of_pods_that_are_being_deleted(self) -> None:
        world = await silent_world(now=10)
        world.put_pod("digits-1", gen.starting(), gen.deleting)
        assert await reads(world) == 0


class TestPauses:
    async def test_double_up_to_a_limit(self) -> None:
        world = await silent_world(now=10)
        pauses = []
        for _ in range(9):
            pause = await world.reconcile()
            assert pause is not None
            pauses.append(pause)
            world.seconds += pause
        assert pauses == [2, 2, 2, 4, 8, 16, 30, 30, 30]

    async def test_other_events_bring_no_look_forward(self) -> None:
        world = await silent_world(now=10)
        assert await reads(world) == 1
        world.seconds += 0.5
        assert await reads(world) == 0
        assert await world.reconcile() == 1.5

    async def test_what_was_read_last_counts_until_the_next_look(self) -> None:
        world = await silent_world(now=10)
        world.api.put(EVENTS, gen.warning("FailedCreatePodSandBox", NO_IP))
        await world.reconcile()
        world.seconds += 0.5
        await world.reconcile()
        assert world.told()[1] == "SandboxFailed"

    async def test_the_earliest_wish_wins(self) -> None:
        world = await silent_world(now=10)
        await looked_often(world)
        world.put_pod("digits-2", gen.starting())  # placed nine seconds ago: the first look at it
        assert await world.reconcile() == 2

    async def test_begin_anew_once_the_pod_has_spoken(self) -> None:
        world = await silent_world(now=10)
        await looked_often(world)
        world.put_pod("digits-1", gen.fetch_running())
        await world.reconcile()
        world.put_pod("digits-1", gen.starting())
        assert await world.reconcile() == 2

    async def test_begin_anew_for_a_successor_of_the_same_name(self) -> None:
        world = await silent_world(now=10)
        await looked_often(world)
        model = world.stored(MODEL_DEPLOYMENTS)
        world.api.remove(MODEL_DEPLOYMENTS, *PLACE)
        await world.reconcile()
        world.api.put(MODEL_DEPLOYMENTS, model)
        assert await world.reconcile() == 2

    async def test_begin_anew_for_another_pod(self) -> None:
        world = await silent_world(now=10)
        await looked_often(world)
        world.api.remove(PODS, gen.NAMESPACE, "digits-1")
        world.put_pod("digits-2", gen.starting())
        assert await world.reconcile() == 2


class TestRoom:
    """A pod that waits for the place of its predecessor."""

    WORDS = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."

    async def replacing(self) -> World:
        world = World()
        await world.reconcile()
        world.put_pod("digits-old", gen.ready(), gen.deleting)
        world.put_pod("digits-new", gen.unschedulable(self.WORDS))
        return world

    async def test_is_progress_while_the_predecessor_ends(self) -> None:
        world = await self.replacing()
        assert await world.reconcile() == OVERRUN.total_seconds()
        waits = "waiting for the place of a pod that is stopped for it"
        assert world.told() == ("False", "Progressing", f"0 of 1 pods; {waits}: {self.WORDS}")

    async def test_and_for_the_moment_that_the_scheduler_needs_then(self) -> None:
        world = await self.replacing()
        await world.reconcile()
        world.api.remove(PODS, gen.NAMESPACE, "digits-old")
        assert await world.reconcile() == pytest.approx(3.0)
        world.seconds += 1.0
        assert await world.reconcile() == pytest.approx(2.0)
        assert world.told()[1] == "Progressing"

    async def test_and_no_longer(self) -> None:
        world = await self.replacing()
        await world.reconcile()
        world.api.remove(PODS, gen.NAMESPACE, "digits-old")
        await world.reconcile()
        world.seconds += 3.0
        assert await world.reconcile() == WAITING_AGAIN
        assert world.told() == ("False", "Unschedulable", f"1 of 1 pods: {self.WORDS}")

    async def test_lasts_as_long_as_the_predecessor_may_take(self) -> None:
        world = await self.replacing()
        world.put_pod("digits-old", gen.ready(), gen.stopping(until=world.seconds + 65))
        assert await world.reconcile() == 65 + OVERRUN.total_seconds()
        world.seconds += 64 + OVERRUN.total_seconds()
        assert await world.reconcile() == 1.0
        assert world.told()[1] == "Progressing"

    @pytest.mark.parametrize("restart", [False, True])
    @pytest.mark.parametrize("later", [0.0, 7200.0])
    async def test_ends_though_the_predecessor_never_does(self, later: float, *, restart: bool) -> None:
        """On a lost node a pod stays in Terminating for hours; meanwhile the truth is told."""
        world = await self.replacing()
        await world.reconcile()
        world.seconds += OVERRUN.total_seconds() + later
        if restart:
            world.restarted()
        assert await world.reconcile() == WAITING_AGAIN
        assert world.told() == ("False", "Unschedulable", f"1 of 1 pods: {self.WORDS}")

    async def test_a_pod_that_was_never_placed_makes_no_room(self) -> None:
        world = World()
        await world.reconcile()
        world.put_pod("digits-old", gen.deleting)
        world.put_pod("digits-new", gen.unschedulable(self.WORDS))
        assert await world.reconcile() == WAITING_AGAIN
        assert world.told()[1] == "Unschedulable"

    async def test_is_a_failure_where_nobody_makes_room(self) -> None:
        world = World()
        await world.reconcile()
        world.put_pod("digits-1", gen.unschedulable(self.WORDS))
        assert await world.reconcile() == WAITING_AGAIN
        assert world.told()[1] == "Unschedulable"


class TestRate:
    async def test_few_pods_of_one_object_at_a_time(self) -> None:
        world = await silent_world(now=10, pods=8)
        for number in range(1, 9):
            world.api.put(EVENTS, gen.warning("FailedMount", "no such volume", of=f"digits-{number}"))
        for _ in range(3):
            assert await reads(world) == PODS_PER_LOOK
            world.seconds += 1.0
        assert world.told()[2].startswith("8 of 8 pods: ")

    async def test_so_many_in_a_second_of_all_objects_together(self) -> None:
        api, keys = FakeKubeApi(), [Key("Toy", gen.NAMESPACE, f"toy-{number}") for number in range(50)]
        now = 60.0
        reader = EventReader(api, lambda: gen.moment(now))
        pods = {key: [parse_pod(gen.pod(f"{key.name}-pod", gen.starting()))] for key in keys}
        counts = []
        for _ in range(4):
            before = len(api.calls)
            for key in keys:
                await reader.warnings(key, pods[key])
            counts.append(len(api.calls) - before)
            now += 1.0
        assert counts[:2] == [READS_PER_SECOND, READS_PER_SECOND]
        assert all(count <= READS_PER_SECOND for count in counts)

    async def test_those_that_were_put_off_come_no_faster_than_they_can_be_read(self) -> None:
        api, count = FakeKubeApi(), 600
        reader = EventReader(api, lambda: gen.moment(60.0))
        pauses = []
        for number in range(count):
            key = Key("Toy", gen.NAMESPACE, f"toy-{number}")
            _, again = await reader.warnings(key, [parse_pod(gen.pod(f"{key.name}-pod", gen.starting()))])
            pauses.append(again or 0.0)
        assert pauses[-1] == pytest.approx(count / READS_PER_SECOND)

    async def test_few_reads_hold_workers_while_they_fail(self) -> None:
        api, now = FakeKubeApi(), 60.0
        reader = EventReader(api, lambda: gen.moment(now))

        def fail(_: object) -> None:
            raise Transient(0, "Timeout", "no answer")

        api.on_call = fail
        for _ in range(3):
            before = len(api.calls)
            for number in range(50):
                key = Key("Toy", gen.NAMESPACE, f"toy-{number}")
                await reader.warnings(key, [parse_pod(gen.pod(f"{key.name}-pod", gen.starting()))])
            assert len(api.calls) - before == READS_WHILE_FAILING
            now += 1.0


class TestFailure:
    @pytest.mark.parametrize(
        "error", [Transient(503, "", "busy"), Forbidden(403, "Forbidden", "events is forbidden")]
    )
    async def test_costs_the_cause_and_not_the_status(self, error: KubeError) -> None:
        world = await silent_world(now=10)
        world.fail(error, verb="list")
        assert await world.reconcile() == 2.0
        assert world.told()[1] == "Progressing"
        assert world.status["observedGeneration"] == 1

    async def test_what_was_read_before_still_counts(self) -> None:
        world = await silent_world(now=10)
        world.api.put(EVENTS, gen.warning("FailedCreatePodSandBox", NO_IP))
        await world.reconcile()
        world.fail(Transient(503, "", "busy"), verb="list")
        world.seconds += 2.0
        await world.reconcile()
        assert world.told()[1] == "SandboxFailed"
