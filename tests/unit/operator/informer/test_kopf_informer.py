from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from serval_operator.api.naming import Key
from serval_operator.api.resources import MODEL_DEPLOYMENTS, NODES, PODS
from serval_operator.constants import CHILD_SELECTOR, LABEL_KIND, LABEL_MANAGED_BY, LABEL_NAME, MANAGED_BY
from serval_operator.informer.kopf_informer import Informer
from serval_operator.runtime.authentication import Connection, Credentials
from serval_operator.runtime.availability import Source
from serval_operator.runtime.cache import Cache
from serval_operator.runtime.watch_health import WatchMonitor
from serval_operator.settings import Settings
from support import gen
from support.wait import until_while_running
from support.watchable import Watchable, watchable
from support.watched import OWNERS, WATCHED, availability, pods

KEY = Key("ModelDeployment", "vision", "resnet")
QUICK = Settings(watch_backoffs=(0.01,) * 20)
LIMIT = 20.0


def pod(name: str) -> dict[str, Any]:
    labels = {LABEL_MANAGED_BY: MANAGED_BY, LABEL_KIND: "ModelDeployment", LABEL_NAME: "resnet"}
    return {"metadata": {"namespace": "vision", "name": name, "labels": labels}}


class Bench:
    """kopf on a cluster in memory."""

    def __init__(self, cluster: Watchable, settings: Settings = QUICK) -> None:
        self.cluster = cluster
        self.cache = Cache(OWNERS)
        self.keys: list[Key] = []
        self.gaps: list[Source] = []
        self.started = asyncio.Event()
        kinds = tuple(cluster.resources)
        self.availability = availability(*settings.watch_namespaces, kinds=kinds)
        for source in self.availability.sources:
            self.availability.listed(source)
        self.monitor = WatchMonitor(self.availability, self.gaps.append)
        connection = Connection(cluster.url, True, Credentials(lambda: "Bearer abc", renewable=True))
        trace = self.monitor.trace()
        self.informer = Informer(
            connection,
            self.cache,
            kinds,
            self.keys.append,
            settings,
            trace,
            self.started.set,
        )
        self.running = asyncio.ensure_future(self.informer.run())

    async def until(self, check: Callable[[], object], what: str) -> None:
        """Wait until something holds; fail at once if kopf ends."""
        await until_while_running(what, check, self.running)

    def gap_plurals(self) -> list[str]:
        return sorted(source.resource.plural for source in self.gaps)

    async def watching(self) -> None:
        await self.until(lambda: len(self.cluster.watching()) == len(WATCHED), "all watches")

    async def end(self) -> None:
        self.informer.stop()
        async with asyncio.timeout(LIMIT):
            await asyncio.gather(self.running, return_exceptions=True)


@pytest.fixture
async def cluster() -> AsyncIterator[Watchable]:
    async with watchable(WATCHED) as cluster:
        yield cluster


@pytest.fixture
async def bench(cluster: Watchable) -> AsyncIterator[Bench]:
    bench = Bench(cluster)
    yield bench
    await bench.end()


async def test_events_reach_the_cache_and_the_queue(bench: Bench) -> None:
    await bench.watching()
    assert bench.keys == []
    api = bench.cluster.api
    api.put(PODS, pod("a"))
    await bench.until(lambda: pods(bench.cache, KEY), "the pod")
    assert bench.keys == [KEY]
    api.set_status(PODS, "vision", "a", {"phase": "Running"})
    await bench.until(lambda: pods(bench.cache, KEY)[0].phase == "Running", "the pod's phase")
    api.remove(PODS, "vision", "a")
    await bench.until(lambda: not pods(bench.cache, KEY), "the pod's end")
    assert bench.keys == [KEY] * 3


async def test_every_watched_kind_has_a_handler(bench: Bench) -> None:
    await bench.watching()
    reference = gen.owner_reference("resnet", "u")
    child = pod("resnet")
    child["metadata"]["ownerReferences"] = [reference]
    ours = [resource for resource in WATCHED if resource.namespaced]
    for resource in ours:
        bench.cluster.api.put(resource, child)
    await bench.until(lambda: len(bench.keys) == len(ours), "an event of each kind")
    assert set(bench.keys) == {KEY}


async def test_nodes_are_seen_and_are_nobodys(bench: Bench) -> None:
    await bench.watching()
    bench.cluster.api.put(NODES, {"metadata": {"name": "gpu-0"}})
    await bench.until(bench.cache.nodes, "the node")
    assert bench.keys == []


async def test_what_was_there_before_is_told_if_the_cache_lacks_it(cluster: Watchable) -> None:
    cluster.api.put(PODS, pod("known"))
    cluster.api.put(PODS, pod("unknown"))
    bench = Bench(cluster)
    bench.cache.store(PODS).observe("ADDED", cluster.api.stored(PODS, "vision", "known") or {})
    await bench.until(lambda: len(pods(bench.cache, KEY)) == 2, "the other pod")
    await bench.watching()
    assert bench.keys == [KEY]
    await bench.end()


async def test_kopf_writes_nothing_and_asks_only_for_what_is_ours(bench: Bench) -> None:
    await bench.watching()
    model = {"metadata": {"namespace": "vision", "name": "resnet"}, "spec": {}}
    bench.cluster.api.put(MODEL_DEPLOYMENTS, model)
    bench.cluster.api.put(PODS, pod("a"))
    bench.cluster.api.edit(MODEL_DEPLOYMENTS, "vision", "resnet", lambda one: one["spec"].update(replicas=2))
    bench.cluster.api.remove(MODEL_DEPLOYMENTS, "vision", "resnet")
    await bench.until(lambda: len(bench.keys) == 4, "all events")
    await bench.end()
    assert {method for method, _, _ in bench.cluster.requests} == {"GET"}
    assert {path for _, path, _ in bench.cluster.requests} == {kind.path(None) for kind in WATCHED}
    for _, path, query in bench.cluster.requests:
        selector = "" if path.endswith(("modeldeployments", "nodes")) else CHILD_SELECTOR
        assert query.get("labelSelector", "") == selector
        if "watch" in query:
            assert query["allowWatchBookmarks"] == "true"
            assert query["timeoutSeconds"] == str(QUICK.watch_timeout_seconds)


async def test_an_expired_version_is_a_gap(bench: Bench) -> None:
    """kopf tells nobody of what was deleted meanwhile; the listing that the gap asks for does."""
    bench.cluster.api.put(PODS, pod("a"))
    await bench.watching()
    await bench.until(lambda: bench.gap_plurals() == _all(), "the first gaps")
    bench.gaps.clear()
    bench.cluster.deaf = True
    bench.cluster.api.remove(PODS, "vision", "a")
    bench.cluster.deaf = False
    bench.cluster.expire()
    await bench.until(lambda: bench.gap_plurals() == _all(), "gaps of all kinds")
    assert len(pods(bench.cache, KEY)) == 1, "kopf did not tell"
    listing = await bench.cluster.api.list(PODS)
    bench.cache.store(PODS).replace((), listing.resource_version)
    assert pods(bench.cache, KEY) == ()


async def test_a_renewed_watch_goes_on_without_a_gap(bench: Bench) -> None:
    await bench.watching()
    await bench.until(lambda: len(bench.gaps) == len(WATCHED), "the first gaps")
    bench.cluster.hang_up()
    await bench.until(lambda: len(bench.cluster.watch_requests()) == 2 * len(WATCHED), "new watches")
    await bench.watching()
    bench.cluster.api.put(PODS, pod("a"))
    await bench.until(lambda: pods(bench.cache, KEY), "the pod")
    assert len(bench.gaps) == len(WATCHED)


async def test_after_an_outage_it_does_not_go_on_where_it_was(bench: Bench) -> None:
    """The API server may be back with an older state: a version that it forgot makes it say 410."""
    bench.cluster.api.put(PODS, pod("a"))
    await bench.watching()
    before = len(bench.cluster.requests)

    def versions() -> list[list[str]]:
        """Versions that the watches of each path asked for since the outage began."""
        found: dict[str, list[str]] = {}
        for _, path, query in bench.cluster.requests[before:]:
            if "watch" in query:
                assert query["timeoutSeconds"]
                found.setdefault(path, []).append(query["resourceVersion"])
        return list(found.values())

    def asked(times: int) -> bool:
        return len(versions()) == len(WATCHED) and all(len(one) >= times for one in versions())

    bench.cluster.refuse = [503] * 10_000
    bench.cluster.hang_up()
    await bench.until(lambda: asked(2), "refused watches of all kinds")
    # One that is starting may refuse what it does not know yet.
    bench.cluster.refuse = [403] * len(WATCHED)
    await bench.until(lambda: not bench.cluster.refuse, "all refusals")
    await bench.until(lambda: asked(3), "new watches of all kinds")
    assert {version for one in versions() for version in one[1:]} == {"1"}


@pytest.mark.parametrize("code", [500, 503, 429, 403, 401])
async def test_a_failing_api_server_is_asked_again(bench: Bench, code: int) -> None:
    await bench.watching()
    bench.cluster.refuse = [code] * 12
    bench.cluster.hang_up()
    await bench.until(lambda: not bench.cluster.refuse, "all refusals")
    await bench.watching()
    bench.cluster.api.put(PODS, pod("a"))
    await bench.until(lambda: pods(bench.cache, KEY), "the pod")


async def test_an_api_server_that_keeps_failing_is_asked_for_ever(cluster: Watchable) -> None:
    bench = Bench(cluster, replace(QUICK, watch_backoffs=(0.01, 0.01)))
    await bench.watching()
    cluster.refuse = [500] * 20 * len(WATCHED)
    cluster.hang_up()
    await bench.until(lambda: not cluster.refuse, "all refusals")
    await bench.watching()
    await bench.end()


async def test_named_namespaces_are_watched_one_by_one(cluster: Watchable) -> None:
    bench = Bench(cluster, replace(QUICK, watch_namespaces=("vision", "speech")))
    wanted = {kind.path(place) for kind in WATCHED for place in kind.places(("vision", "speech"))}
    assert NODES.path(None) in wanted
    await bench.until(lambda: not bench.monitor.silent(), "all watches")
    assert {path for _, path, _ in cluster.requests} == wanted
    await bench.end()


async def test_it_stops_soon_and_without_error(bench: Bench) -> None:
    await bench.watching()
    assert bench.started.is_set()
    bench.informer.stop()
    async with asyncio.timeout(LIMIT):
        await bench.running


async def test_it_ends_no_task_but_its_own(bench: Bench) -> None:
    await bench.watching()
    younger = asyncio.ensure_future(asyncio.Event().wait())
    await bench.end()
    assert not younger.done()
    younger.cancel()


def _all() -> list[str]:
    return sorted(kind.plural for kind in WATCHED)
