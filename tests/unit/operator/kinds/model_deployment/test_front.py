"""A front before the runtime's server: when it comes, and that nothing else makes it come or go."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from serval_operator.config import Configuration
from support import gen
from unit.operator.configuration import CONFIGURATION, FRONTED
from unit.operator.kinds.model_deployment.world import World

pytestmark = pytest.mark.unit

OFFICIAL = {"name": "tensorflow-serving"}
SCORES = {"rawBytes": "Enabled"}


def able(configuration: Configuration) -> Configuration:
    """The same, where the official runtime can score by itself."""
    runtime = configuration.runtimes["tensorflow-serving"]
    able = replace(runtime, capabilities=runtime.capabilities | {"raw-score"})
    return replace(configuration, runtimes={**configuration.runtimes, runtime.name: able})


async def made(configuration: Configuration, **spec: Any) -> World:
    """A ModelDeployment under a configuration, that serves."""
    world = World(runtime=OFFICIAL, **spec)
    world.configuration = configuration
    world.restarted()
    await world.reconcile()
    world.put_pod("digits-1", gen.ready())
    await world.reconcile()
    return world


def containers(world: World) -> list[str]:
    """Names of the containers that the Deployment's pods run at the same time."""
    pod = world.stored_deployment["spec"]["template"]["spec"]
    sidecars = [one for one in pod["initContainers"] if one.get("restartPolicy") == "Always"]
    return [one["name"] for one in (*sidecars, *pod["containers"])]


async def configured(world: World, configuration: Configuration) -> None:
    """The operator starts anew with another configuration."""
    world.configuration = configuration
    world.restarted()
    await world.reconcile()


async def test_comes_with_the_wish_and_goes_with_it() -> None:
    world = await made(FRONTED)
    plain = world.carried
    assert containers(world) == ["server"]
    world.edit_spec(endpoint=SCORES)
    await world.reconcile()
    assert containers(world) == ["server", "front"]
    assert world.carried != plain
    world.edit_spec(endpoint={})
    await world.reconcile()
    assert (containers(world), world.carried) == (["server"], plain)


async def test_is_refused_where_the_configuration_has_none() -> None:
    world = await made(CONFIGURATION)
    world.edit_spec(endpoint=SCORES)
    await world.reconcile()
    assert world.told()[1] == "UnsupportedSpec"
    assert containers(world) == ["server"]


async def test_heals_what_was_refused() -> None:
    world = World(runtime=OFFICIAL, endpoint=SCORES)
    await world.reconcile()
    assert world.told()[1] == "UnsupportedSpec"
    await configured(world, FRONTED)
    assert containers(world) == ["server", "front"]


async def test_a_configuration_with_a_front_restarts_nobody() -> None:
    world = await made(CONFIGURATION, endpoint={"rawBytes": "Disabled"})
    before = world.carried
    await configured(world, FRONTED)
    assert world.carried == before
    assert "UpdateAvailable" not in {one["type"] for one in world.status["conditions"]}


async def test_a_runtime_that_has_learned_restarts_nobody() -> None:
    world = await made(FRONTED, endpoint=SCORES)
    before = world.carried
    await configured(world, able(FRONTED))
    assert (containers(world), world.carried) == (["server", "front"], before)
    assert world.told("UpdateAvailable")[0] == "True"
    world.edit_spec(rollout={"trigger": "now"})
    await world.reconcile()
    assert containers(world) == ["server"]


async def test_a_front_that_fails_is_named() -> None:
    world = await made(FRONTED, endpoint=SCORES)
    assert world.told()[:2] == ("True", "Serving")
    loaded = gen.server(gen.running(12), answered=True, ready=True)
    world.put_pod("digits-1", loaded, gen.front(gen.back_off("front"), last=gen.ended(2, "no such flag")))
    await world.reconcile()
    told = "1 of 1 pods: the front container ended with exit code 2: no such flag"
    assert world.told() == ("False", "CrashLoop", told)
    assert world.told("Available")[0] == "False"
