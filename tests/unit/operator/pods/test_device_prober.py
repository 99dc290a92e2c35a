"""When pods are asked what they run on, and what is asked of those whose device is for their model alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from serval_operator.api.naming import Key
from serval_operator.api.snapshots import PodView, parse_pod
from serval_operator.pods.device_prober import Devices
from serval_operator.runtime.pod_metrics import HttpProber
from support import gen

pytestmark = pytest.mark.unit

KEY = Key("AcceleratedModel", "vision", "eyes")
IP = "10.0.0.1"
LABELS = 'device="emulated",emulated="true",engine="emulator",version="1"'
MOST_PAUSES = 12


class World:
    """A pod's server, and a clock that stops for good after some pauses.

    Attributes
    ----------
    fault:
        What is wrong with the device; empty while it is healthy.
    asked:
        What the server was asked for.
    """

    def __init__(self) -> None:
        self.fault = ""
        self.asked: list[str] = []
        self.pauses: list[float] = []
        self.woken: list[Key] = []
        self.devices = Devices(cast("HttpProber", self), self.woken.append, self.pause)

    async def metrics(self, ip: str, port: int) -> str | None:
        assert (ip, port) == (IP, 8501)
        self.asked.append("metrics")
        healthy = 0 if self.fault else 1
        return (
            f'serval_accelerator_in_use{{model_name="eyes",version="1",device="emulated"}} 0\n'
            f"serval_device_programmed{{{LABELS}}} 1\n"
            f"serval_device_healthy{{{LABELS}}} {healthy}\n"
        )

    async def status(self, ip: str, port: int, model: str) -> str | None:
        assert (ip, port) == (IP, 8501)
        self.asked.append(f"status of {model}")
        status = {"error_code": "UNAVAILABLE", "error_message": self.fault}
        return json.dumps({"model_version_status": [{"version": "1", "state": "LOADING", "status": status}]})

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(0)
        if len(self.pauses) >= MOST_PAUSES:
            await asyncio.Event().wait()

    async def see(self, *options: gen.Option, exclusive: str = "eyes") -> None:
        """One reconcile sees the pod in this state, and all that follows happens."""
        pod: PodView = parse_pod(gen.pod("eyes-0", gen.placed(), gen.fetched(), *options, gen.at(IP)))
        self.devices.answers(KEY, [pod], exclusive)
        for _ in range(5 * MOST_PAUSES):
            await asyncio.sleep(0)

    def told(self) -> Any:
        """What is known of the pod."""
        (answer,) = self.devices.known(KEY).values()
        return answer.report


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    world.devices.forget(KEY)


async def test_a_ready_pod_with_an_emulated_device_is_asked_once(world: World) -> None:
    await world.see(gen.ready())
    await world.see(gen.ready())
    assert (world.asked, world.pauses) == (["metrics"], [])
    assert world.told().healthy


async def test_it_is_asked_anew_when_it_stops_being_ready_and_when_it_is_ready_again(world: World) -> None:
    await world.see(gen.ready())
    world.fault = "the device is unhealthy: too hot"
    world.asked.clear()
    world.woken.clear()
    await world.see(gen.ready(), gen.unready)
    assert world.asked[:2] == ["metrics", "status of eyes"], "it is asked at once"
    assert (world.told().healthy, world.told().fault) == (False, "the device is unhealthy: too hot")
    assert world.woken == [KEY], "the same again is no news"
    world.fault = ""
    world.asked.clear()
    await world.see(gen.ready())
    assert world.asked == ["metrics"]
    assert world.told().healthy


async def test_while_it_is_not_ready_it_is_asked_again_with_growing_pauses(world: World) -> None:
    world.fault = "too hot"
    await world.see(gen.loading())
    assert world.pauses[:6] == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]
    assert max(world.pauses) == 60.0


async def test_other_words_are_news(world: World) -> None:
    world.fault = "too hot"
    await world.see(gen.loading())
    before = len(world.woken)
    world.fault = "it burns"
    world.pauses.clear()
    await world.see(gen.ready(), gen.unready)
    await world.see(gen.server_crashed(1, "x"))
    await world.see(gen.loading(last=gen.ended(1, "x")))
    assert world.told().fault == "it burns"
    assert len(world.woken) == before + 1


async def test_a_pod_that_does_not_run_is_not_asked(world: World) -> None:
    await world.see(gen.starting())
    await world.see(gen.server_crashed(1, "x"))
    assert world.asked == []


async def test_a_device_that_models_share_is_asked_for_as_before(world: World) -> None:
    world.fault = "too hot"
    await world.see(gen.loading(), exclusive="")
    assert world.asked == []
    await world.see(gen.ready(), exclusive="")
    await world.see(gen.ready(), gen.unready, exclusive="")
    assert world.asked == ["metrics"]
