"""What holds of the queue whatever happens: no starvation, no idle device, no flapping."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serval_operator.turns.packing import Packing
from serval_operator.turns.queue import PASSED_FOR, Contender, Turns, take_turns
from unit.operator.turns.queueing import World, contender

pytestmark = pytest.mark.unit

NODES = ("a", "b", "c")
STEPS = 60
SETTLED = 6
"""Decisions after which a world in which nothing happens is at rest."""

nodes_of = st.sets(st.sampled_from(NODES), min_size=1)


@st.composite
def objects(draw: st.DrawFn, *, units: int = 1, most: int = 6) -> list[Contender]:
    """Some objects, created in any order."""
    return [
        contender(
            f"m{index}",
            draw(st.integers(0, 3)),
            nodes=draw(nodes_of),
            wanted=draw(st.integers(0, 3)),
            units=draw(st.integers(1, units)),
            priority=draw(st.integers(0, 1)),
            together=draw(st.integers(0, 5)) == 0,
            refused=draw(st.integers(0, 7)) == 0,
            elastic=draw(st.integers(0, 7)) == 0,
        )
        for index in range(draw(st.integers(1, most)))
    ]


@st.composite
def worlds(draw: st.DrawFn, *, units: int = 1) -> World:
    """A world some time after its objects came. Some of them hold devices, and some have ended."""
    world = World({node: draw(st.integers(0, 3)) for node in NODES})
    fill(world, draw(st.integers(0, 9)))
    for one in draw(objects(units=units)):
        world.add(one)
        if draw(st.booleans()):
            world.step()
            world.now += timedelta(minutes=draw(st.integers(0, 12)))
    for uid in draw(st.sets(st.sampled_from(sorted(world.objects)), max_size=3)):
        if len(world.objects) > 1:
            world.end(uid)
    return world


def fill(world: World, most: int) -> None:
    """Let small objects hold devices, so many of each node at most."""
    for node, count in world.offered.items():
        for index in range(min(count, most)):
            world.add(contender(f"{node}{index}", -1, nodes=node))
    world.step()


def wasted(turns: Turns) -> list[str]:
    """Contenders that wait although a node has room for one more of their pods.

    The pod of one that could take what is kept for another may go there, so it has to wait.
    """
    kept = set(turns.reserved)
    return [
        one.uid
        for one in turns.waiting
        if not (one.together or one.elastic or one.yields or one.uid in kept)
        and any(turns.free.get(node, 0) >= one.units for node in one.nodes)
        and not any(turns.kept.get(node, 0) >= one.units for node in one.nodes)
    ]


@given(worlds(units=2), st.data())
def test_the_order_of_the_input_does_not_matter(world: World, data: st.DataObject) -> None:
    observed = world.observed()
    before = take_turns(observed, world.free(), world.now)
    shuffled = data.draw(st.permutations(observed))
    after = take_turns(shuffled, dict(reversed(world.free().items())), world.now)
    assert (after.granted, after.reserved, after.free) == (before.granted, before.reserved, before.free)
    assert [one.uid for one in after.waiting] == [one.uid for one in before.waiting]


@given(worlds(units=2))
def test_no_device_is_idle_that_a_waiter_fits(world: World) -> None:
    turns = world.decide()
    assert wasted(turns) == []


@given(worlds())
def test_a_decision_that_was_applied_is_made_again(world: World) -> None:
    first = world.decide()
    world.apply(first)
    assert world.decide().granted == first.granted


@given(worlds(units=2))
def test_a_world_in_which_nothing_happens_comes_to_rest(world: World) -> None:
    for _ in range(SETTLED):
        world.step()
    rest = world.step()
    assert world.step().granted == rest.granted


@given(worlds(units=2))
def test_nobody_gets_more_than_is_wanted_or_loses_a_pod_that_runs(world: World) -> None:
    turns = world.decide()
    for one in world.observed():
        assert min(one.placed, one.wanted) <= turns.granted[one.uid] <= one.wanted


@given(worlds(units=2))
def test_at_rest_those_on_fixed_nodes_have_no_more_pods_than_devices(world: World) -> None:
    for _ in range(SETTLED):
        world.step()
    for uid, one in world.objects.items():
        if not one.elastic and not one.refused:
            assert one.asked == len(world.pods[uid])


@settings(max_examples=60)
@given(objects(units=2, most=4), st.data())
def test_everybody_gets_a_device_in_the_end(made: list[Contender], data: st.DataObject) -> None:
    """Those that hold devices end one after the other, and small objects come all the time."""
    world = World({node: data.draw(st.integers(1, 3)) for node in NODES})
    fill(world, 9)
    for one in made:
        world.add(replace(one, priority=0))
    old = {
        one.uid
        for one in made
        if one.wanted and not (one.refused or one.elastic) and fits_alone(one, world.offered)
    }
    held: list[str] = []
    for step in range(STEPS):
        world.now += PASSED_FOR / 2
        world.add(contender(f"late{step}", 1000 + step, nodes=NODES))
        world.step()
        old -= {uid for uid in old if world.pods[uid]}
        if not old:
            break
        held += [uid for uid, pods in world.pods.items() if pods and uid not in held]
        world.end(held.pop(0))
    assert not old


def fits_alone(one: Contender, offered: dict[str, int]) -> bool:
    """Whether nodes could take what a contender needs at once, if nobody else were there."""
    pods = one.wanted if one.together else 1
    return Packing(dict(offered)).put_all(one.nodes, one.units, pods)
