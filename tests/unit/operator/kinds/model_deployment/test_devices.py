"""How the operator learns what pods run on: until they use a device, and without waiting."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from serval_operator.api.resources import MODEL_DEPLOYMENTS, PODS
from support import gen
from unit.operator.configuration import CONFIGURATION
from unit.operator.kinds.model_deployment.world import KEY, MOST_PAUSES, PLACE, World

pytestmark = pytest.mark.unit

GPU = {"profile": "nvidia-gpu"}
SERVAL = CONFIGURATION.runtimes["serval"]
TELLS = replace(SERVAL, capabilities=SERVAL.capabilities | {"device-report"})
TELLING = replace(CONFIGURATION, runtimes={**CONFIGURATION.runtimes, "serval": TELLS})


def page(device: str) -> str:
    """A page of metrics."""
    used = int(device != "CPU")
    labels = f'model_name="digits",version="3",device="{device}"'
    return f"# TYPE x gauge\nserval_accelerator_in_use{{{labels}}} {used}\n"


async def settled() -> None:
    """Let all that can go on go on."""
    for _ in range(50):
        await asyncio.sleep(0)


async def made(*ips: str, **spec: Any) -> World:
    """A ModelDeployment with a ready pod at each address."""
    world = World(**{"accelerator": GPU, "replicas": len(ips), **spec})
    world.configuration = TELLING
    world.restarted()
    world.put_node("gpu-0", gpu=9)
    await world.reconcile()
    for ip in ips:
        world.put_pod(f"digits-{ip}", gen.ready(), gen.at(ip))
    return world


async def judged(world: World) -> None:
    """Reconcile, and again for each time that the operator woke itself."""
    await world.reconcile()
    await settled()
    while world.woken:
        world.woken.clear()
        await world.reconcile()
        await settled()


def kinds(world: World) -> set[str]:
    return {one["type"] for one in world.status["conditions"]}


async def test_every_pod_is_asked_once() -> None:
    world = await made("10.0.0.1", "10.0.0.2")
    world.pages = {"10.0.0.1": page("GPU"), "10.0.0.2": page("GPU")}
    await judged(world)
    assert world.told("AcceleratorInUse") == ("True", "Done", "2 of 2 pods run the model on GPU")
    assert sorted(world.probed) == [("10.0.0.1", 8501), ("10.0.0.2", 8501)]
    assert ("Warning", "EngineOnCpu") not in world.events
    for _ in range(3):
        assert await world.calls() == []
        await settled()
    assert len(world.probed) == 2


async def test_a_fall_back_shows_and_takes_ready_from_nobody() -> None:
    world = await made("10.0.0.1", "10.0.0.2")
    world.pages = {"10.0.0.1": page("GPU"), "10.0.0.2": page("CPU")}
    await judged(world)
    status, reason, message = world.told("AcceleratorInUse")
    assert (status, reason) == ("False", "EngineOnCpu")
    assert message.startswith("1 of 2 pods: the model runs on the CPU")
    assert world.told()[:2] == ("True", "Serving")
    assert world.events == [("Normal", "Serving"), ("Warning", "EngineOnCpu")]
    world.put_pod("digits-10.0.0.2", gen.ready(after=30), gen.at("10.0.0.2"))
    await judged(world)
    assert world.events == [("Normal", "Serving"), ("Warning", "EngineOnCpu")]


async def test_a_reconcile_waits_for_no_pod() -> None:
    world = await made("10.0.0.1")
    await world.reconcile()
    assert world.told()[:2] == ("True", "Serving")
    assert world.probed == []
    assert "AcceleratorInUse" not in kinds(world)
    await settled()
    assert world.woken == [KEY]


async def test_one_that_does_not_answer_is_asked_again_with_growing_pauses() -> None:
    world = await made("10.0.0.1")
    await judged(world)
    assert world.told("AcceleratorInUse")[:2] == ("Unknown", "DeviceUnknown")
    assert world.pauses[:4] == [5.0, 10.0, 20.0, 40.0]
    assert max(world.pauses) == 600.0
    assert len(world.probed) == MOST_PAUSES
    # In vain again is no news.
    assert await world.calls() == []


async def test_one_that_does_not_know_yet_is_asked_again() -> None:
    """A TensorFlow model knows its device after its first run."""
    world = await made("10.0.0.1")
    world.pages["10.0.0.1"] = "# nothing yet\n"
    await world.reconcile()
    await asyncio.sleep(0)
    await world.reconcile()
    assert world.told("AcceleratorInUse")[:2] == ("Unknown", "DeviceUnknown")
    world.pages["10.0.0.1"] = page("GPU")
    await judged(world)
    assert world.told("AcceleratorInUse")[:2] == ("True", "Done")
    assert world.pauses


async def test_one_on_the_cpu_is_asked_again_with_growing_pauses() -> None:
    """TensorFlow reports the signatures that ran; a later one may compute on the device."""
    world = await made("10.0.0.1")
    world.pages["10.0.0.1"] = page("CPU")
    await world.reconcile()
    await asyncio.sleep(0)
    await world.reconcile()
    assert world.told("AcceleratorInUse")[:2] == ("False", "EngineOnCpu")
    assert world.pauses[:1] == [5.0]
    world.pages["10.0.0.1"] = page("GPU")
    await judged(world)
    assert world.told("AcceleratorInUse")[:2] == ("True", "Done")


async def test_one_that_stays_on_the_cpu_is_asked_rarely() -> None:
    world = await made("10.0.0.1")
    world.pages["10.0.0.1"] = page("CPU")
    await judged(world)
    assert world.pauses[:4] == [5.0, 10.0, 20.0, 40.0]
    assert max(world.pauses) == 600.0
    assert await world.calls() == [], "the same again is no news"


async def test_one_that_answers_late() -> None:
    world = await made("10.0.0.1")
    await world.reconcile()
    await asyncio.sleep(0)
    world.pages["10.0.0.1"] = page("CUDA")
    await judged(world)
    assert world.told("AcceleratorInUse")[0] == "True"


async def test_a_restart_of_the_operator_asks_again_and_writes_nothing() -> None:
    world = await made("10.0.0.1")
    world.pages["10.0.0.1"] = page("CPU")
    await judged(world)
    world.restarted()
    world.probed.clear()
    assert await world.calls() == []
    await settled()
    assert world.woken == [KEY]
    assert await world.calls() == []
    assert set(world.probed) == {("10.0.0.1", 8501)}
    assert world.events.count(("Warning", "EngineOnCpu")) == 1


async def test_a_server_that_began_anew_is_asked_anew() -> None:
    world = await made("10.0.0.1")
    world.pages["10.0.0.1"] = page("GPU")
    await judged(world)
    world.pages["10.0.0.1"] = page("CUDA")
    world.put_pod("digits-10.0.0.1", gen.ready(last=gen.ended(1, "x")), gen.at("10.0.0.1"))
    await judged(world)
    assert world.told("AcceleratorInUse")[2] == "1 of 1 pods run the model on CUDA"
    assert len(world.probed) == 2


async def test_goes_with_the_last_ready_pod() -> None:
    world = await made("10.0.0.1")
    world.pages["10.0.0.1"] = page("GPU")
    await judged(world)
    world.put_pod("digits-10.0.0.1", gen.ready(), gen.unready, gen.at("10.0.0.1"))
    await judged(world)
    assert "AcceleratorInUse" not in kinds(world)
    world.put_pod("digits-10.0.0.1", gen.ready(), gen.at("10.0.0.1"))
    await judged(world)
    assert world.told("AcceleratorInUse")[0] == "True"
    assert len(world.probed) == 1, "one that wavers is asked once"


async def test_a_front_is_asked_for_the_server_behind_it() -> None:
    world = await made("10.0.0.1")
    world.pages["10.0.0.1"] = page("GPU")
    front = gen.front(gen.running(13), answered=True, ready=True)
    world.put_pod("digits-10.0.0.1", gen.ready(), front, gen.at("10.0.0.1"))
    await judged(world)
    assert world.probed == [("10.0.0.1", 8501)]


@pytest.mark.parametrize(
    ("spec", "telling"),
    [({"accelerator": {"profile": "cpu"}}, True), ({"accelerator": None}, True), ({}, False)],
    ids=["profile without a resource", "no accelerator", "a runtime that does not tell"],
)
async def test_nobody_else_is_asked(spec: dict[str, Any], telling: bool) -> None:
    spec = {name: value for name, value in {"accelerator": GPU, **spec}.items() if value}
    world = World(**spec)
    world.configuration = TELLING if telling else CONFIGURATION
    world.restarted()
    world.put_node("gpu-0", gpu=9)
    await world.reconcile()
    world.put_pod("digits-1", gen.ready(), gen.at("10.0.0.1"))
    await judged(world)
    assert world.told()[:2] == ("True", "Serving")
    assert world.probed == []
    assert "AcceleratorInUse" not in kinds(world)


@pytest.mark.parametrize("end", ["the pod", "the ModelDeployment"])
async def test_who_is_gone_is_not_asked_any_more(end: str) -> None:
    world = await made("10.0.0.1")
    before = asyncio.all_tasks()
    await world.reconcile()
    (task,) = asyncio.all_tasks() - before
    if end == "the pod":
        world.api.remove(PODS, gen.NAMESPACE, "digits-10.0.0.1")
    else:
        world.api.remove(MODEL_DEPLOYMENTS, *PLACE)
    await world.reconcile()
    await settled()
    assert task.cancelled()
