from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest

from serval_operator.api.naming import Key
from serval_operator.api.resources import MODEL_DEPLOYMENTS, NODES, PODS, SERVICES
from serval_operator.constants import LABEL_KIND, LABEL_MANAGED_BY, LABEL_NAME, MANAGED_BY
from serval_operator.errors import Forbidden, KubeError, Transient
from serval_operator.runtime.cache import Cache
from serval_operator.runtime.lister import COLLECT_SECONDS, Relister
from support.clock import FakeClock, settle
from support.fakes import Call, FakeKubeApi
from support.watched import OWNERS, WATCHED, pods

KEY = Key("ModelDeployment", "vision", "resnet")


def pod(name: str) -> dict[str, Any]:
    labels = {LABEL_MANAGED_BY: MANAGED_BY, LABEL_KIND: "ModelDeployment", LABEL_NAME: "resnet"}
    return {"metadata": {"namespace": "vision", "name": name, "labels": labels}}


class Setup:
    """A relister on a cluster in memory, on a clock of its own."""

    def __init__(self, *namespaces: str | None) -> None:
        self.api, self.cache, self.clock = FakeKubeApi(), Cache(OWNERS), FakeClock()
        self.keys: list[Key] = []
        self.repairs: list[tuple[str, int]] = []
        self.relister = Relister(
            self.api,
            self.cache,
            WATCHED,
            OWNERS,
            namespaces,
            self.keys.append,
            self,
            interval=300,
            sleep=self.clock.sleep,
        )

    def repaired(self, resource: str, objects: int) -> None:
        self.repairs.append((resource, objects))

    def listed(self) -> list[str]:
        return [call.resource.plural for call in self.api.calls if call.verb == "list"]


@pytest.fixture
async def at() -> Setup:
    return Setup(None)


async def running(setup: Setup) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(setup.relister.run())
    await settle()
    yield task
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_the_first_listing_fills_every_kind(at: Setup) -> None:
    at.api.put(MODEL_DEPLOYMENTS, {"metadata": {"namespace": "vision", "name": "resnet"}, "spec": {}})
    at.api.put(PODS, pod("a"))
    at.api.put(PODS, {"metadata": {"namespace": "vision", "name": "stranger"}})
    assert not at.cache.synced
    await at.relister.fill(10)
    assert at.cache.synced
    assert at.cache.owners() == (KEY,)
    assert [view.name for view in pods(at.cache, KEY)] == ["a"]
    assert at.listed() == [resource.plural for resource in WATCHED]
    assert at.keys == [], "filling is not a repair"


async def test_the_first_listing_is_tried_until_it_succeeds(at: Setup) -> None:
    failures = [KubeError(404, "NotFound", "no such kind"), Forbidden(403, "Forbidden", "no role yet")]

    def fail(call: Call) -> None:
        if failures and call.resource == MODEL_DEPLOYMENTS:
            raise failures.pop(0)

    at.api.on_call = fail
    filling = asyncio.create_task(at.relister.fill(60))
    await at.clock.advance(0.5)
    assert not filling.done()
    await at.clock.advance(1.0)
    await filling
    assert at.cache.synced
    assert at.listed() == 3 * [resource.plural for resource in WATCHED]


async def test_the_first_listing_says_in_the_end_why_it_failed() -> None:
    setup = Setup(None)

    async def turn(_: float) -> None:
        await asyncio.sleep(0)

    setup.relister = Relister(
        setup.api, setup.cache, [PODS], OWNERS, (None,), setup.keys.append, setup, interval=300, sleep=turn
    )

    def fail(_: Call) -> None:
        raise Forbidden(403, "Forbidden", "no role")

    setup.api.on_call = fail
    with pytest.raises(Forbidden, match="no role"):
        await setup.relister.fill(0.05)
    assert not setup.cache.synced


async def test_each_namespace_is_listed_by_itself() -> None:
    setup = Setup("vision", "speech")
    setup.api.put(PODS, pod("a"))
    await setup.relister.fill(10)
    places = {(call.namespace, call.resource.plural) for call in setup.api.calls}
    inside = {(place, kind.plural) for place in ("vision", "speech") for kind in WATCHED if kind.namespaced}
    assert places == {*inside, ("", "nodes")}
    assert [call.resource for call in setup.api.calls].count(NODES) == 1
    assert len(pods(setup.cache, KEY)) == 1


async def test_what_may_not_be_watched_is_not_listed() -> None:
    setup = Setup(None)
    kinds = (MODEL_DEPLOYMENTS, PODS)
    relister = Relister(
        setup.api, setup.cache, kinds, OWNERS, (None,), setup.keys.append, setup, interval=300
    )
    await relister.fill(10)
    assert setup.listed() == ["modeldeployments", "pods"]


async def test_a_new_node_that_only_a_listing_told_of_is_news() -> None:
    setup = Setup(None)
    news: list[str] = []
    setup.cache = Cache(OWNERS, lambda: news.append("changed"))
    relister = Relister(
        setup.api, setup.cache, [NODES], OWNERS, (None,), setup.keys.append, setup, interval=300
    )
    setup.api.put(NODES, {"metadata": {"name": "gpu-0"}})
    await relister.fill(10)
    assert [node.name for node in setup.cache.nodes()] == ["gpu-0"]
    await relister.fill(10)
    assert news == ["changed"]
    setup.api.remove(NODES, None, "gpu-0")
    await relister.fill(10)
    assert news == ["changed"] * 2
    assert setup.cache.nodes() == ()


async def test_a_gap_lists_that_kind_and_tells_who_has_to_look(at: Setup) -> None:
    at.api.put(PODS, pod("a"))
    await at.relister.fill(10)
    at.api.remove(PODS, "vision", "a")
    at.api.calls.clear()
    async for _ in running(at):
        at.relister.gap(PODS)
        await at.clock.advance(COLLECT_SECONDS)
        assert at.listed() == ["modeldeployments", "pods"], "nobody misses a child of what is gone"
        assert at.keys == [KEY]
        assert at.repairs == [("pods", 1)]
        at.relister.gap(PODS)
        await at.clock.advance(COLLECT_SECONDS / 2)
        at.relister.gap(PODS)
        at.relister.gap(SERVICES)
        await at.clock.advance(COLLECT_SECONDS)
        assert at.listed()[2:] == ["modeldeployments", "services", "pods"]
        assert at.keys == [KEY], "nothing had changed"


async def test_a_listing_that_fails_is_repeated(at: Setup) -> None:
    await at.relister.fill(10)
    at.api.put(PODS, pod("a"))
    failures = [Transient(503, "", ""), Transient(503, "", "")]

    def fail(_: Call) -> None:
        if failures:
            raise failures.pop()

    at.api.on_call = fail
    async for task in running(at):
        at.relister.gap(PODS)
        await at.clock.advance(3)
        assert not task.done()
        assert at.keys == [KEY]


async def test_everything_is_listed_in_each_interval() -> None:
    setup = Setup(None)
    kinds = WATCHED
    quick = Relister(setup.api, setup.cache, kinds, OWNERS, (None,), setup.keys.append, setup, interval=0.01)
    setup.relister = quick
    await quick.fill(10)
    everything = [resource.plural for resource in WATCHED]
    async for _ in running(setup):
        async with asyncio.timeout(10):
            while len(setup.listed()) < 3 * len(everything):  # noqa: ASYNC110 - the fake sets no event
                await asyncio.sleep(0.001)
    assert setup.listed()[: 3 * len(everything)] == everything * 3
