from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any

import pytest

from serval_operator.api.naming import Key
from serval_operator.api.resources import MODEL_DEPLOYMENTS, NODES, PODS, SERVICES, Resource
from serval_operator.constants import LABEL_KIND, LABEL_MANAGED_BY, LABEL_NAME, MANAGED_BY
from serval_operator.errors import Forbidden, KubeError, Transient
from serval_operator.runtime.availability import LASTING_REFUSALS, Source
from serval_operator.runtime.cache import Cache
from serval_operator.runtime.lister import COLLECT_SECONDS, OWNERS_FIRST_SECONDS, Relister
from support.clock import FakeClock, settle
from support.fakes import Call, FakeKubeApi
from support.watched import OWNERS, WATCHED, availability, pods

KEY = Key("ModelDeployment", "vision", "resnet")


def pod(name: str) -> dict[str, Any]:
    labels = {LABEL_MANAGED_BY: MANAGED_BY, LABEL_KIND: "ModelDeployment", LABEL_NAME: "resnet"}
    return {"metadata": {"namespace": "vision", "name": name, "labels": labels}}


class Setup:
    """A relister on a cluster in memory, on a clock of its own."""

    def __init__(
        self, *namespaces: str | None, kinds: Sequence[Resource] = WATCHED, interval: float = 300
    ) -> None:
        self.api, self.cache, self.clock = FakeKubeApi(), Cache(OWNERS), FakeClock()
        self.availability = availability(*namespaces, kinds=kinds)
        self.keys: list[Key] = []
        self.repairs: list[tuple[str, int]] = []
        self.tried: list[Source] = []
        self.relister = Relister(
            self.api,
            self.cache,
            self.availability,
            OWNERS,
            self.keys.append,
            self,
            interval=interval,
            sleep=self.clock.sleep,
            on_try=self.tried.append,
        )

    def repaired(self, resource: str, objects: int) -> None:
        self.repairs.append((resource, objects))

    def fail_in(self, namespace: str, error: KubeError) -> None:
        """Let all calls about a namespace fail."""

        def fail(call: Call) -> None:
            if call.namespace == namespace:
                raise error

        self.api.on_call = fail

    async def list_again(self, resource: Resource, namespace: str | None = None) -> None:
        self.relister.gap(Source(resource, namespace))
        await self.clock.advance(COLLECT_SECONDS)

    def listed(self) -> list[str]:
        return [call.resource.plural for call in self.api.calls if call.verb == "list"]


@pytest.fixture
async def at() -> Setup:
    return Setup()


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
    again = ["modeldeployments"] * 2
    assert at.listed() == [resource.plural for resource in WATCHED] + again, "only what failed is repeated"


async def test_the_first_listing_says_in_the_end_why_it_failed() -> None:
    setup = Setup(kinds=(PODS, MODEL_DEPLOYMENTS))

    def fail(call: Call) -> None:
        raise Forbidden(403, "Forbidden", f"no role for {call.resource.plural}")

    setup.api.on_call = fail
    with pytest.raises(Forbidden, match="no role for modeldeployments"):
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
    setup = Setup()
    setup.availability.unwanted(Source(NODES, None))
    await setup.relister.fill(10)
    assert setup.listed() == [resource.plural for resource in WATCHED if resource != NODES]


async def test_a_new_node_that_only_a_listing_told_of_is_news() -> None:
    setup = Setup(kinds=(MODEL_DEPLOYMENTS, NODES))
    news: list[str] = []
    setup.cache = setup.relister._cache = Cache(OWNERS, lambda: news.append("changed"))
    setup.api.put(NODES, {"metadata": {"name": "gpu-0"}})
    await setup.relister.fill(10)
    assert [node.name for node in setup.cache.nodes()] == ["gpu-0"]
    async for _ in running(setup):
        await setup.list_again(NODES)
        assert news == ["changed"]
        setup.api.remove(NODES, None, "gpu-0")
        await setup.list_again(NODES)
        assert news == ["changed"] * 2
        assert setup.cache.nodes() == ()


async def test_a_gap_lists_that_kind_and_tells_who_has_to_look(at: Setup) -> None:
    at.api.put(PODS, pod("a"))
    await at.relister.fill(10)
    at.api.remove(PODS, "vision", "a")
    at.api.calls.clear()
    async for _ in running(at):
        at.relister.gap(Source(PODS, None))
        await at.clock.advance(COLLECT_SECONDS)
        assert at.listed() == ["modeldeployments", "pods"], "nobody misses a child of what is gone"
        assert at.keys == [KEY]
        assert at.repairs == [("pods", 1)]
        at.relister.gap(Source(PODS, None))
        await at.clock.advance(COLLECT_SECONDS / 2)
        at.relister.gap(Source(PODS, None))
        at.relister.gap(Source(SERVICES, None))
        await at.clock.advance(COLLECT_SECONDS)
        assert at.listed()[2] == "modeldeployments"
        assert sorted(at.listed()[3:]) == ["pods", "services"]
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
        at.relister.gap(Source(PODS, None))
        await at.clock.advance(3)
        assert not task.done()
        assert at.keys == [KEY]


async def test_everything_is_listed_in_each_interval(at: Setup) -> None:
    await at.relister.fill(10)
    everything = [resource.plural for resource in WATCHED]
    async for _ in running(at):
        for _ in range(2):
            await at.clock.advance(1.2 * 300)
    assert at.listed() == everything * 3


async def test_a_namespace_that_is_refused_does_not_delay_the_start(caplog: pytest.LogCaptureFixture) -> None:
    setup = Setup("gone", "vision")
    setup.api.put(MODEL_DEPLOYMENTS, {"metadata": {"namespace": "vision", "name": "resnet"}, "spec": {}})
    setup.fail_in("gone", Forbidden(403, "Forbidden", "no role"))
    filling = asyncio.create_task(setup.relister.fill(60))
    await setup.clock.advance(5)
    assert filling.done()
    await filling
    assert setup.cache.owners() == (KEY,)
    assert setup.availability.serves(KEY)
    assert not setup.availability.serves(KEY._replace(namespace="gone"))
    about_pods = [one for one in caplog.messages if one.startswith("pods in namespace gone")]
    assert about_pods == ["pods in namespace gone cannot be served, will try again: no role"]


async def test_what_was_refused_is_tried_ever_more_rarely_and_picked_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    setup = Setup("later", "vision")
    later = Key("ModelDeployment", "later", "resnet")
    setup.api.put(MODEL_DEPLOYMENTS, {"metadata": {"namespace": "later", "name": "resnet"}, "spec": {}})
    setup.fail_in("later", KubeError(404, "NotFound", "no such kind"))
    filling = asyncio.create_task(setup.relister.fill(60))
    await setup.clock.advance(5)
    await filling
    async for _ in running(setup):
        await setup.clock.advance(600)
        setup.api.calls.clear()
        await setup.clock.advance(3600)
        tries = [call for call in setup.api.calls if call.resource == SERVICES and call.namespace == "later"]
        assert 55 <= len(tries) <= 75, "about once a minute"
        setup.api.on_call = lambda _: None
        await setup.clock.advance(61)
        assert setup.availability.serves(later)
        assert setup.keys == [later]
    about = [one for one in caplog.messages if one.startswith("services in namespace later")]
    assert about == [
        "services in namespace later cannot be served, will try again: no such kind",
        "services in namespace later can be served again",
    ]


@pytest.mark.parametrize(
    "error", [Forbidden(403, "", "no role"), Transient(503, "", "away"), KubeError(404, "", "")]
)
async def test_a_kind_that_cannot_be_listed_holds_up_no_repair_of_another(error: KubeError) -> None:
    setup = Setup()
    await setup.relister.fill(10)
    setup.api.put(PODS, pod("a"))

    def fail(call: Call) -> None:
        if call.resource in (NODES, SERVICES):
            raise error

    setup.api.on_call = fail
    async for _ in running(setup):
        for kind in (NODES, SERVICES, PODS):
            setup.relister.gap(Source(kind, None))
        await setup.clock.advance(2 * COLLECT_SECONDS)
        assert setup.keys == [KEY]


async def test_custom_resources_that_cannot_be_listed_hold_up_a_child_for_a_moment_only() -> None:
    setup = Setup()
    await setup.relister.fill(10)
    setup.api.put(PODS, pod("a"))

    def fail(call: Call) -> None:
        if call.resource == MODEL_DEPLOYMENTS:
            raise Transient(503, "", "away")

    setup.api.on_call = fail
    async for _ in running(setup):
        setup.relister.gap(Source(PODS, None))
        await setup.clock.advance(OWNERS_FIRST_SECONDS)
        assert setup.keys == []
        await setup.clock.advance(2 * COLLECT_SECONDS)
        assert setup.keys == [KEY]


async def test_a_namespace_that_fails_loses_no_wake_up_of_another() -> None:
    setup = Setup("vision", "broken")
    await setup.relister.fill(10)
    setup.api.put(PODS, pod("a"))
    setup.fail_in("broken", Transient(500, "", "no page"))
    async for _ in running(setup):
        for namespace in ("vision", "broken"):
            setup.relister.gap(Source(PODS, namespace))
        await setup.clock.advance(2 * COLLECT_SECONDS)
        assert setup.keys == [KEY]
        setup.api.on_call = lambda _: None
        await setup.clock.advance(20)
        assert setup.keys == [KEY]


async def test_what_fails_for_a_passing_reason_delays_the_start_but_does_not_prevent_it() -> None:
    setup = Setup("vision", "broken")
    setup.fail_in("broken", Transient(500, "", "a conversion webhook is away"))
    filling = asyncio.create_task(setup.relister.fill(0.3))
    await setup.clock.advance(0.2)
    assert not filling.done()
    await filling
    assert setup.cache.synced
    assert setup.availability.serves(KEY)
    async for _ in running(setup):
        setup.api.on_call = lambda _: None
        await setup.clock.advance(1)
        assert setup.availability.serves(KEY._replace(namespace="broken"))


async def test_a_refused_child_that_had_been_seen_is_listed_again() -> None:
    setup = Setup()
    await setup.relister.fill(10)
    pods_source = Source(PODS, None)
    async for _ in running(setup):
        for _ in range(LASTING_REFUSALS):
            setup.availability.watch_refused(pods_source, "no watching")
        repair = asyncio.create_task(setup.relister.repair(pods_source))
        await setup.clock.advance(1)
        assert not repair.done(), "what was refused is not tried at once"
        await setup.clock.advance(1.5)
        assert repair.done()
        assert not setup.availability.serves(KEY), "it was not watched yet"
        setup.availability.watch_accepted(pods_source)
        assert setup.availability.serves(KEY)


async def test_each_try_of_a_listing_is_told() -> None:
    at = Setup(None, kinds=(MODEL_DEPLOYMENTS,))
    failures = [Transient(503, "", "away")] * 2

    def fail(_: Call) -> None:
        if failures:
            raise failures.pop()

    at.api.on_call = fail
    filling = asyncio.create_task(at.relister.fill(60))
    await at.clock.advance(5)
    await filling
    assert at.tried == 3 * [Source(MODEL_DEPLOYMENTS, None)]
