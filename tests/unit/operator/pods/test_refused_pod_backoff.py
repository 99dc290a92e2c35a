"""Refused pods: the table of what they demand, and whole storms in a simulated cluster."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serval_operator.api.conditions import Blocked
from serval_operator.pods.refused_pod_backoff import (
    COUNTS_FOR,
    LONGEST_PAUSE,
    MOST_DEAD,
    SHORTEST_PAUSE,
    Damping,
    is_refused,
    plan_damping,
)
from support import gen
from unit.operator.workload.rolling import NEW, NO_DEVICE, OLD, World, running, until, workload
from unit.operator.workload.seeing import seeing

pytestmark = pytest.mark.unit

WORDS = (
    "UnexpectedAdmissionError: Pod was rejected: Allocate failed due to no healthy devices present; cannot "
    "allocate unhealthy devices nvidia.com/gpu, which is unexpected"
)


def dead(name: str, made: float, revision: str = NEW) -> gen.Object:
    return gen.pod(name, gen.refused(), revision=revision, created=made)


def good(name: str, made: float, revision: str = NEW) -> gen.Object:
    return gen.pod(name, gen.ready(), revision=revision, created=made)


def accepted(name: str, made: float, revision: str = NEW) -> gen.Object:
    return gen.pod(name, gen.starting(), revision=revision, created=made)


def waiting(name: str, made: float) -> gen.Object:
    return gen.pod(name, gen.unschedulable(NO_DEVICE), revision=NEW, created=made)


def planned(*pods: gen.Object, wanted: int = 1, carried: str = NEW, replicas: int = 0, now: float) -> Damping:
    """Plan for the new revision; the Deployment asks for all pods unless told otherwise."""
    seen = seeing(*pods, carried=carried, replicas=replicas or wanted, now=now)
    return plan_damping(seen, revision=NEW, wanted=wanted)


def names(found: Damping) -> str:
    return "".join(pod.name for pod in found.trim)


STORM = [dead("a", 100), dead("b", 100), dead("c", 101)]


class TestRefused:
    @pytest.mark.parametrize(
        ("option", "refused"),
        [
            (gen.refused(), True),
            (gen.refused("OutOfnvidia.com/gpu", "x"), True),
            (gen.refused("NodeAffinity", "x"), True),
            (gen.placed(), False),
            (gen.ready(), False),
        ],
    )
    def test_pods(self, option: gen.Option, *, refused: bool) -> None:
        (pod,) = seeing(gen.pod("a", option)).pods
        assert is_refused(pod) is refused

    def test_one_that_was_accepted_and_given_up_later_was_not_refused(self) -> None:
        (pod,) = seeing(gen.pod("a", gen.ready(), gen.evicted("low on memory"))).pods
        assert not is_refused(pod)


class TestNothing:
    def test_where_nothing_was_refused(self) -> None:
        assert planned(good("a", 0), now=60) == Damping()
        assert planned(now=60) == Damping()

    def test_an_accident(self) -> None:
        assert planned(dead("a", 100), dead("b", 100), now=101) == Damping()

    def test_where_all_were_accepted_in_the_end_the_dead_go(self) -> None:
        found = planned(*STORM, good("z", 101), now=102)
        assert (found.run, found.cause, names(found)) == (None, None, "abc")

    def test_another_revision_begins_afresh(self) -> None:
        found = planned(dead("a", 100, OLD), dead("b", 100, OLD), dead("c", 101, OLD), now=102)
        assert (found.run, found.again, names(found)) == (None, None, "abc")

    def test_those_being_deleted_do_not_count(self) -> None:
        gone = [gen.pod(name, gen.refused(), gen.deleting, revision=NEW, created=100) for name in "abcd"]
        assert planned(*gone, now=101) == Damping()

    def test_of_a_storm_that_nobody_damped_some_stay_for_a_reader(self) -> None:
        found = planned(*(dead(name, 100) for name in "abcdefgh"), waiting("z", 101), now=1000)
        assert (found.run, names(found)) == (None, "abcdefgh"[:-MOST_DEAD])

    def test_a_storm_that_is_long_over(self) -> None:
        end = 101 + LONGEST_PAUSE.total_seconds()
        assert planned(*STORM, waiting("z", 102), now=end).run == 0 + 1
        assert planned(*STORM, waiting("z", 102), now=end + 1).run is None


class TestLongAgo:
    """A refusal of long ago throttles nobody. Some dead pods stay for a reader, so there may be one."""

    AGO = COUNTS_FOR.total_seconds()

    @pytest.mark.parametrize(("later", "run"), [(0, 2), (1, None)])
    def test_scaling_up_beside_a_pod_that_waits(self, later: float, run: int | None) -> None:
        """Two were wanted, and six are: the Deployment still asks for two."""
        pods = [dead("a", 0), waiting("z", 1), good("x", -10)]
        found = planned(*pods, replicas=2, wanted=6, now=self.AGO + later)
        assert (found.run, found.cause) == (run, None)

    @pytest.mark.parametrize(("later", "run"), [(0, 0 + 1), (1, None)])
    def test_another_revision_carried_meanwhile(self, later: float, run: int | None) -> None:
        found = planned(*STORM, waiting("z", 102), carried=OLD, now=101 + self.AGO + later)
        assert found.run == run

    @pytest.mark.parametrize(("before", "run"), [(0, 0), (-1, None)])
    def test_repeats_nothing(self, before: float, run: int | None) -> None:
        """One more refusal, of a day later, is an accident."""
        assert planned(dead("a", before), dead("b", self.AGO), now=self.AGO).run == run

    @pytest.mark.parametrize(("before", "run"), [(0, 1), (-1, None)])
    def test_with_an_accepted_pod_since(self, before: float, run: int | None) -> None:
        pods = [dead("a", before), good("x", 5), dead("b", self.AGO)]
        assert planned(*pods, wanted=2, now=self.AGO).run == run

    def test_makes_no_longer_pause(self) -> None:
        pods = [dead("a", -1), dead("b", self.AGO), dead("c", self.AGO), dead("d", self.AGO)]
        assert planned(*pods, now=self.AGO).again == SHORTEST_PAUSE.total_seconds()


class TestHold:
    def test_a_storm_stops_what_is_not_running(self) -> None:
        found = planned(*STORM, now=102)
        assert (found.run, found.instead, found.beside) == (0, "", False)
        assert found.again == SHORTEST_PAUSE.total_seconds() - 1

    def test_what_was_accepted_goes_on(self) -> None:
        found = planned(*STORM, good("x", 90), accepted("y", 90), wanted=4, now=102)
        assert found.run == 2

    def test_it_says_why(self) -> None:
        found = planned(*STORM, good("x", 90), wanted=3, now=102)
        text = f"1 of 3 pods were accepted; others are tried after pauses: {WORDS}"
        assert found.cause == Blocked("DeviceAllocationFailed", text)

    def test_the_dead_that_tell_nothing_more_go(self) -> None:
        found = planned(*STORM, dead("d", 140), dead("e", 141), replicas=1, wanted=2, now=142)
        # The last of each of the newest two tries stay: from them comes the pause.
        assert names(found) == "abd"
        assert found.again == 2 * (141 - 101) - 1

    @pytest.mark.parametrize(
        ("before", "pause"), [(100, 30), (86, 30), (85, 32), (81, 40), (1, 200), (-200, 600), (-500, 600)]
    )
    def test_the_pause_doubles_within_bounds(self, before: float, pause: float) -> None:
        found = planned(dead("a", before), dead("b", 101), replicas=1, wanted=2, now=101)
        assert found.again == pause

    def test_a_clock_that_was_moved_back_makes_no_longer_pause(self) -> None:
        assert planned(*STORM, now=-5000).again == SHORTEST_PAUSE.total_seconds()

    def test_goes_on_by_what_the_deployment_asks_for(self) -> None:
        """After a restart of the operator, with only one dead pod left to tell of it."""
        assert planned(dead("a", 100), replicas=1, wanted=2, now=110).run == 0
        assert planned(dead("a", 100), replicas=2, wanted=2, now=110).run is None
        assert planned(dead("a", 100), carried=OLD, wanted=2, now=110).run == 0

    @pytest.mark.parametrize(("later", "run"), [(114, None), (115, 0), (300, 0)])
    def test_a_refusal_in_a_later_try_repeats(self, later: float, run: int | None) -> None:
        """Nothing else tells of it where the pod that is tried is the last one wanted."""
        assert planned(dead("a", 100), dead("b", later), now=later).run == run

    def test_a_refusal_after_a_pod_was_accepted_repeats(self) -> None:
        found = planned(dead("a", 100), good("x", 101), dead("b", 102), wanted=2, now=103)
        assert found.run == 1


class TestBetweenRevisions:
    """A Deployment in the middle of a rollout cannot stand still: one revision is carried whole."""

    @pytest.mark.parametrize(
        ("old", "new", "instead", "run"),
        [(1, 0, OLD, 1), (3, 0, OLD, 3), (2, 1, OLD, 2), (1, 1, "", 1), (1, 2, "", 2), (0, 1, "", 1)],
    )
    def test_the_one_that_answers_more(self, old: int, new: int, instead: str, run: int) -> None:
        pods = [good(f"o{number}", 0, OLD) for number in range(old)]
        pods += [good(f"n{number}", 90) for number in range(new)]
        found = planned(*STORM, *pods, wanted=3, now=102)
        assert (found.instead, found.run) == (instead, run)
        assert found.instead == instead

    def test_an_old_pod_that_does_not_answer_is_nothing_to_hold(self) -> None:
        found = planned(*STORM, accepted("o", 0, OLD), wanted=2, now=102)
        assert (found.instead, found.run) == ("", 0)

    def test_with_fewer_pods_than_wanted_a_new_one_may_come_beside(self) -> None:
        assert planned(*STORM, good("o", 0, OLD), wanted=2, now=102).beside
        assert not planned(*STORM, good("o", 0, OLD), wanted=1, now=102).beside
        assert not planned(*STORM, wanted=2, now=102).beside


class TestTry:
    def test_one_more_pod(self) -> None:
        found = planned(*STORM, good("x", 90), replicas=1, wanted=4, now=131)
        assert (found.run, found.again, found.instead) == (2, None, "")
        assert found.cause is not None

    def test_beside_old_ones_it_is_the_one_that_a_rollout_makes_first(self) -> None:
        pods = [*STORM, good("o", 0, OLD), good("p", 0, OLD)]
        found = planned(*pods, carried=OLD, replicas=2, wanted=3, now=131)
        assert (found.run, found.beside, found.instead) == (2, True, "")

    def test_whatever_it_waits_for_is_told_by_others(self) -> None:
        found = planned(*STORM, waiting("z", 131), replicas=1, wanted=2, now=132)
        assert (found.run, found.cause) == (1, None)


class TestHealed:
    def test_all_may_come(self) -> None:
        found = planned(*STORM, accepted("x", 131), replicas=1, wanted=4, now=132)
        assert (found.run, found.cause, found.again) == (None, None, None)

    def test_a_pod_of_the_same_second_proves_nothing(self) -> None:
        assert planned(*STORM, accepted("x", 101), replicas=1, wanted=4, now=102).run == 1

    def test_a_rollout_goes_on_with_as_many_as_it_has(self) -> None:
        pods = [*STORM, good("o", 0, OLD), good("p", 0, OLD), accepted("x", 131)]
        found = planned(*pods, carried=NEW, replicas=2, wanted=4, now=132)
        assert (found.run, found.beside) == (2, True)
        assert planned(*pods, carried=OLD, replicas=2, wanted=4, now=132).run is None


# --- storms in a simulated cluster ----------------------------------------------------------------------

STORMS = settings(max_examples=15, deadline=None)
QUICK = 0.1
"""Seconds that the operator takes from what it sees to what it does: about what a ReplicaSet takes to make
the next pod."""
PERIOD = LONGEST_PAUSE.total_seconds() + 60


def sick(bad: int, heals: float) -> dict[str, Any]:
    """So many of the devices are refused until a time."""
    names = {f"gpu-{number}" for number in range(bad)}
    return {"refuses": lambda device, now: device in names and now < heals}


class TestStorms:
    @STORMS
    @given(st.integers(1, 6), st.floats(1.0, 900.0))
    def test_a_start_is_damped_and_heals(self, wanted: int, heals: float) -> None:
        world = World(workload(OLD, wanted), [f"g{i}" for i in range(wanted)], until(heals), delay=QUICK)
        world.run(min(heals, 5))
        # All replicas come at once before anything is known, and once more until somebody could look.
        assert world.most_dead <= max(5, 2 * wanted + 2)
        world.most_dead = 0
        world.run(max(heals - world.now, 0))
        assert world.most_dead <= 5
        world.run(PERIOD)
        assert world.ready() == wanted
        assert world.dead == []

    def test_the_tries_go_apart(self) -> None:
        world = World(workload(OLD, 2), ["a", "b"], until(1e9), delay=QUICK).run(4000)
        tries = [at for at, before in zip(world.tries, [-1e9, *world.tries], strict=False) if at - before > 5]
        gaps = [round(later - at) for at, later in pairwise(tries)]
        assert gaps[:2] == pytest.approx([30, 60], abs=3)
        assert gaps[2:5] == pytest.approx([120, 240, 480], abs=10)
        assert gaps[5:] == pytest.approx([600] * len(gaps[5:]), abs=3)
        assert len(gaps) >= 8
        assert world.most_dead <= 6  # in the first second: both at once, until somebody could look

    @STORMS
    @given(st.integers(1, 3), st.integers(0, 2), st.integers(1, 5), st.floats(11, 400), st.integers())
    def test_a_rollout_is_damped_and_heals(
        self, wanted: int, spare: int, bad: int, heals: float, dice: int
    ) -> None:
        devices = wanted + spare
        world = running(
            OLD, wanted, devices, delay=QUICK, dice=Random(dice), **sick(min(bad, devices), heals)
        )
        world.edit(revision=NEW)
        world.run(heals - world.now)
        assert world.most_dead <= 5
        # Where several serve, some go on serving; a single one does where its successor comes beside it.
        assert world.least_ready >= (1 if wanted > 1 or spare else 0)
        world.run(PERIOD)
        assert world.ready(NEW) == wanted == world.ready()
        assert world.dead == []

    @STORMS
    @given(st.integers(1, 3), st.floats(11, 300), st.lists(st.floats(0.1, 60), max_size=6))
    def test_a_restart_of_the_operator_forgets_nothing(
        self, wanted: int, heals: float, pauses: list[float]
    ) -> None:
        world = World(workload(OLD, wanted), [f"g{i}" for i in range(wanted)], until(heals), delay=QUICK).run(
            5
        )
        world.most_dead = 0
        for pause in pauses:
            world.run(pause)
            world.restart()
        assert world.most_dead <= 5
        world.run(heals + PERIOD)
        assert world.ready() == wanted

    @STORMS
    @given(st.integers(1, 3), st.floats(11, 300), st.floats(-60, 5))
    def test_a_clock_that_differs_a_little_harms_nobody(self, wanted: int, heals: float, skew: float) -> None:
        devices = [f"g{i}" for i in range(wanted)]
        world = World(workload(OLD, wanted), devices, until(heals), delay=QUICK, skew=skew).run(5)
        world.most_dead = 0
        world.run(heals)
        assert world.most_dead <= 5
        world.run(PERIOD + abs(skew))
        assert world.ready() == wanted

    def test_a_cure_is_tried_at_once(self) -> None:
        """A new revision begins afresh: what was refused before may be what it cures."""
        world = World(workload(OLD, 1), ["a"], until(100), delay=QUICK).run(95)
        assert world.ready() == 0
        world.run(10)
        world.edit(revision=NEW)
        world.run(10)
        assert world.ready(NEW) == 1

    def test_scaling_up_long_after_a_refusal_asks_for_all(self) -> None:
        """A refused pod stays for a reader, its successor waits for a device, and more are wanted."""
        refused = 1.0
        world = World(workload(OLD, 2), ["a", "b"], lambda device, now: device == "b" and now < refused)
        world.run(refused)
        world.devices = ["a"]
        world.run(COUNTS_FOR.total_seconds())
        assert (world.ready(), len(world.dead)) == (1, 1)
        world.edit(wanted=6)
        world.run(60)
        assert world.replicas == 6

    def test_scaling_down_to_what_runs_ends_it(self) -> None:
        world = World(workload(OLD, 3), ["a", "b", "c"], lambda device, _: device == "a", delay=QUICK).run(30)
        assert world.ready() == 2
        world.edit(wanted=2)
        world.run(60)
        assert world.ready() == 2
        assert world.dead == []
        assert world.rollout is not None
        assert world.rollout.blocked is None
