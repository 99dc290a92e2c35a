"""Whole rollouts, in a simulated cluster: what they cost, and where they end."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serval_operator.workload.rollout import SURGE_PATIENCE, Rollout
from unit.operator.workload.rolling import NEW, OLD, World, running

pytestmark = pytest.mark.unit

NEWER = "cccccccccc"
TAINTED = "0/1 nodes are available: 1 node(s) had untolerated taint(s)."
LONG = 120.0
"""Seconds by which every rollout here is over: five pods one after another, at most 15 s each."""
WANTED = st.integers(1, 5)
SPARE = st.integers(0, 2)
TIMES = st.fixed_dictionaries(
    {
        "delay": st.sampled_from([0.1, 0.2, 0.5]),
        "load": st.sampled_from([0.5, 2.0, 10.0]),
        "grace": st.sampled_from([0.0, 1.0, 3.0]),
    }
)
rolls = settings(max_examples=20, deadline=None)


def serving(world: World) -> tuple[int, int]:
    """Pods that answer, of the old and of the new revision."""
    return world.ready(OLD), world.ready(NEW)


def plan(world: World) -> Rollout:
    assert world.rollout is not None
    return world.rollout


def at_rest(world: World) -> bool:
    """Whether nothing happens any more."""
    made, carried, strategy = world.made, world.carried, world.surge
    world.run(30)
    return (made, carried, strategy) == (world.made, world.carried, world.surge)


@rolls
@given(WANTED, SPARE, TIMES)
def test_a_good_model_replaces_the_old_one(wanted: int, spare: int, times: dict[str, float]) -> None:
    world = running(OLD, wanted, wanted + spare, **times)
    world.strategies.clear()
    world.edit(revision=NEW)
    world.run(LONG)
    assert serving(world) == (0, wanted)
    assert {pod.revision for pod in world.pods} == {NEW}
    # A spare device means that the service loses nothing; without one, the pod in whose place the next comes.
    assert world.least_ready >= (wanted if spare else wanted - 1)
    assert set(world.strategies) == {"Surge" if spare else "InPlace"}
    assert world.made == 2 * wanted
    assert at_rest(world)


@rolls
@given(WANTED, SPARE, TIMES)
def test_a_bad_model_costs_no_more_than_its_place(wanted: int, spare: int, times: dict[str, float]) -> None:
    world = running(OLD, wanted, wanted + spare, bad=frozenset({NEW}), **times)
    world.strategies.clear()
    world.edit(revision=NEW)
    world.run(LONG)
    lost = 0 if spare else 1
    assert serving(world) == (wanted - lost, 0)
    assert world.least_ready == wanted - lost
    assert set(world.strategies) == {"Surge" if spare else "InPlace"}
    assert at_rest(world)


@rolls
@given(WANTED, SPARE, TIMES)
def test_a_bad_model_goes_back_where_that_is_asked_for(
    wanted: int, spare: int, times: dict[str, float]
) -> None:
    world = running(OLD, wanted, wanted + spare, bad=frozenset({NEW}), **times)
    world.edit(revision=NEW, on_failure="Revert")
    world.run(LONG)
    assert serving(world) == (wanted, 0)
    assert world.least_ready >= wanted - (0 if spare else 1)
    assert plan(world).revision == OLD
    blocked = plan(world).blocked
    assert blocked is not None
    assert blocked.reason == "ModelNotFound"
    assert at_rest(world)
    # The next attempt is another revision, and it is tried.
    world.bad = frozenset()
    world.edit(revision=NEWER)
    world.run(LONG)
    assert world.ready(NEWER) == wanted
    assert plan(world).blocked is None


@rolls
@given(WANTED, TIMES)
def test_surge_waits_for_a_device_where_that_is_asked_for(wanted: int, times: dict[str, float]) -> None:
    world = running(OLD, wanted, wanted, **times)
    world.edit(revision=NEW, asked="Surge")
    world.run(LONG)
    assert serving(world) == (wanted, 0)
    assert world.least_ready == wanted
    world.devices = [*world.devices, "gpu-more"]
    world.run(LONG)
    assert serving(world) == (0, wanted)
    assert world.least_ready == wanted


@rolls
@given(WANTED, SPARE, TIMES)
def test_in_place_uses_no_spare_device(wanted: int, spare: int, times: dict[str, float]) -> None:
    world = running(OLD, wanted, wanted + spare, **times)
    world.edit(revision=NEW, asked="InPlace")
    most = 0
    for _ in range(int(LONG)):
        world.run(1)
        most = max(most, sum(pod.active and bool(pod.device) for pod in world.pods))
    assert serving(world) == (0, wanted)
    assert world.least_ready == wanted - 1
    assert most <= wanted


@rolls
@given(WANTED, st.floats(0.1, 8.0), TIMES)
def test_a_device_that_a_stranger_takes_makes_the_rollout_go_on_in_place(
    wanted: int, when: float, times: dict[str, float]
) -> None:
    world = running(OLD, wanted, wanted + 1, **times)
    world.strategies.clear()
    world.edit(revision=NEW)
    world.run(when)
    held = {pod.device for pod in world.pods}
    free = [device for device in world.devices if device not in held]
    world.devices = [device for device in world.devices if device not in free]
    world.run(2 * LONG)
    assert serving(world) == (0, wanted)
    assert world.least_ready >= wanted - 1
    # It changes once at most, and not back when devices come and go by its own doing.
    changes = sum(one != other for one, other in pairwise(world.strategies))
    assert changes <= 1


@rolls
@given(WANTED, st.booleans(), TIMES, st.lists(st.floats(0.1, 40.0), max_size=3))
def test_memory_for_no_more_pods_makes_the_rollout_go_on_in_place(
    wanted: int, devices: bool, times: dict[str, float], pauses: list[float]
) -> None:
    """A device is free and memory is not, or none is asked for: the old pods hold what the new one needs."""
    world = running(OLD, wanted, wanted + 2, memory=wanted, **times)
    world.strategies.clear()
    world.edit(revision=NEW, devices=devices)
    for pause in pauses:
        world.run(pause)
        world.restart()
    world.run(SURGE_PATIENCE.total_seconds() + LONG)
    assert serving(world) == (0, wanted)
    assert world.least_ready == wanted - 1
    assert world.strategies[0] == "Surge"
    assert "InPlace" in world.strategies
    assert at_rest(world)


@rolls
@given(WANTED, st.booleans(), TIMES)
def test_what_no_leaving_cures_stops_no_pod(wanted: int, devices: bool, times: dict[str, float]) -> None:
    world = running(OLD, wanted, wanted + 2, shut=TAINTED, **times)
    world.edit(revision=NEW, devices=devices)
    world.run(10 * SURGE_PATIENCE.total_seconds())
    assert serving(world) == (wanted, 0)
    assert world.least_ready == wanted
    world.shut = ""
    world.run(LONG)
    assert serving(world) == (0, wanted)
    assert world.least_ready == wanted


@rolls
@given(WANTED, SPARE, TIMES, st.lists(st.floats(0.1, 15.0), max_size=6))
def test_another_operator_may_take_over_at_any_time(
    wanted: int, spare: int, times: dict[str, float], pauses: list[float]
) -> None:
    world = running(OLD, wanted, wanted + spare, **times)
    world.edit(revision=NEW)
    for pause in pauses:
        world.run(pause)
        world.restart()
    world.run(LONG)
    assert serving(world) == (0, wanted)
    assert world.least_ready >= (wanted if spare else wanted - 1)


@rolls
@given(WANTED, SPARE, TIMES, st.floats(0.1, 20.0), st.integers(0, 5))
def test_the_spec_may_change_in_the_middle(
    wanted: int, spare: int, times: dict[str, float], when: float, then: int
) -> None:
    world = running(OLD, wanted, wanted + spare, **times)
    world.edit(revision=NEW)
    world.run(when)
    world.edit(revision=NEWER, wanted=then)
    world.devices = [f"gpu-{number}" for number in range(max(then, wanted) + spare)]
    world.run(2 * LONG)
    assert world.ready(NEWER) == world.ready() == then
    assert at_rest(world)


@rolls
@given(WANTED, SPARE, TIMES, st.integers(0, 3))
def test_back_to_what_served_in_the_middle(
    wanted: int, spare: int, times: dict[str, float], steps: int
) -> None:
    """A user who takes his change back: the old revision is carried again."""
    world = running(OLD, wanted, wanted + spare, **times)
    world.edit(revision=NEW)
    world.run(steps * 2.0)
    world.edit(revision=OLD)
    world.run(LONG)
    assert serving(world) == (wanted, 0)
    assert at_rest(world)


def test_a_start_is_no_rollout() -> None:
    world = World(replace(running(OLD, 1, 1).workload, wanted=3), ["a", "b"])
    world.run(10)
    assert world.ready() == 2
    assert set(world.strategies) == {"InPlace"}
    world.devices = ["a", "b", "c"]
    assert world.run(10).ready() == 3
