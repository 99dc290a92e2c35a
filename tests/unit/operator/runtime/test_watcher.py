"""Our own watch: it goes on where a listing ended, survives what breaks it, and notices a restored past."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from serval_operator.api.naming import Key
from serval_operator.api.resources import NODES, PODS, Resource
from serval_operator.constants import CHILD_SELECTOR, LABEL_KIND, LABEL_MANAGED_BY, LABEL_NAME, MANAGED_BY
from serval_operator.runtime.authentication import Connection, Credentials
from serval_operator.runtime.availability import LASTING_REFUSALS, Source
from serval_operator.runtime.cache import Cache
from serval_operator.runtime.store import DELETED, MODIFIED
from serval_operator.runtime.watch_health import WatchMonitor
from serval_operator.runtime.watcher import Watcher
from support.wait import until_while_running
from support.watchable import Watchable, watchable
from support.watched import OWNERS, availability, pods

pytestmark = pytest.mark.unit

KEY = Key("ModelDeployment", "vision", "resnet")


def pod(name: str) -> dict[str, Any]:
    labels = {LABEL_MANAGED_BY: MANAGED_BY, LABEL_KIND: "ModelDeployment", LABEL_NAME: "resnet"}
    return {"metadata": {"namespace": "vision", "name": name, "labels": labels}}


class Bench:
    """A watcher of pods and nodes on a cluster in memory; it is the repairer, too.

    Attributes
    ----------
    repaired:
        Kinds that were listed anew.
    """

    def __init__(self, cluster: Watchable, *namespaces: str) -> None:
        self.cluster = cluster
        self.cache = Cache(OWNERS)
        self.keys: list[Key] = []
        self.repaired: list[Resource] = []
        self.pauses: list[float] = []
        self._namespaces: tuple[str | None, ...] = namespaces or (None,)
        self.availability = availability(*self._namespaces, kinds=(PODS, NODES))
        self.monitor = WatchMonitor(self.availability, lambda _: None)
        self.running: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Fill the cache, and watch."""
        for source in self.availability.sources:
            await self.repair(source)
        self.repaired.clear()
        self.run()
        await self.until(lambda: self.cluster.watching() == {"pods", "nodes"}, "all watches")

    def run(self) -> None:
        """Watch what was listed."""
        connection = Connection(self.cluster.url, True, Credentials(lambda: "Bearer abc", renewable=True))
        watcher = Watcher(
            connection,
            self.cache,
            self.availability.sources,
            self.availability,
            self.keys.append,
            self,
            seconds=240,
            backoffs=(0.001, 0.002),
            trace=self.monitor.trace(),
            sleep=self._sleep,
        )
        self.running = asyncio.ensure_future(watcher.run())

    async def _sleep(self, pause: float) -> None:
        self.pauses.append(pause)
        await asyncio.sleep(0)

    async def repair(self, source: Source) -> None:
        self.repaired.append(source.resource)
        store = self.cache.store(source.resource)
        listing = await self.cluster.api.list(source.resource, source.namespace)
        store.replace([store.parse(one) for one in listing.items], listing.resource_version, source.namespace)
        self.availability.listed(source)

    async def until(self, check: Callable[[], object], what: str) -> None:
        """Wait until something holds; fail at once if the watcher ends."""
        await until_while_running(what, check, self.running)

    def watches(self, plural: str = "pods") -> list[dict[str, str]]:
        """Queries of the watch requests of a kind."""
        return [
            query
            for _, path, query in self.cluster.requests
            if path.endswith(f"/{plural}") and "watch" in query
        ]

    def names(self) -> set[str]:
        """Pods in the cache."""
        return {one.name for one in pods(self.cache, KEY)}

    async def end(self) -> None:
        if self.running:
            self.running.cancel()
            await asyncio.gather(self.running, return_exceptions=True)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with watchable((PODS, NODES)) as cluster:
        bench = Bench(cluster)
        cluster.api.put(PODS, pod("early"))
        await bench.start()
        yield bench
        await bench.end()


async def test_begins_where_the_listing_ended_and_lists_nothing(bench: Bench) -> None:
    (query,) = bench.watches()
    listed = bench.cache.store(PODS).listed_at()
    assert listed > 0
    assert query == {
        "watch": "true",
        "allowWatchBookmarks": "true",
        "resourceVersion": str(listed),
        "timeoutSeconds": "240",
        "labelSelector": CHILD_SELECTOR,
    }
    assert "labelSelector" not in bench.watches("nodes")[0]
    assert all("watch" in query for _, _, query in bench.cluster.requests)


async def test_events_fill_the_cache_and_tell_the_owner(bench: Bench) -> None:
    bench.cluster.api.put(PODS, pod("late"))
    await bench.until(lambda: bench.names() == {"early", "late"}, "a new pod")
    bench.cluster.api.remove(PODS, "vision", "early")
    await bench.until(lambda: bench.names() == {"late"}, "the end of a pod")
    assert set(bench.keys) == {KEY}


async def test_goes_on_from_the_last_event_when_its_time_is_up(bench: Bench) -> None:
    bench.cluster.api.put(PODS, pod("late"))
    await bench.until(lambda: "late" in bench.names(), "a new pod")
    last = bench.cluster.api.stored(PODS, "vision", "late")
    assert last is not None
    bench.cluster.hang_up()
    await bench.until(lambda: len(bench.watches()) == 2, "another request")
    assert bench.watches()[1]["resourceVersion"] == last["metadata"]["resourceVersion"]
    assert not bench.pauses
    assert not bench.repaired


async def test_a_bookmark_moves_on_and_changes_nothing(bench: Bench) -> None:
    bench.cluster.tell(PODS, "BOOKMARK", {"metadata": {"resourceVersion": "4711"}})
    bench.cluster.hang_up()
    await bench.until(lambda: len(bench.watches()) == 2, "another request")
    assert bench.watches()[1]["resourceVersion"] == "4711"
    assert bench.names() == {"early"}
    assert not bench.keys


async def test_what_the_api_server_forgot_is_listed(bench: Bench) -> None:
    bench.cluster.deaf = True
    bench.cluster.api.put(PODS, pod("missed"))
    bench.cluster.deaf = False
    bench.cluster.expire()
    await bench.until(lambda: "missed" in bench.names(), "the missed pod")
    assert PODS in bench.repaired
    await bench.until(lambda: len(bench.watches()) == 2, "another watch")
    assert int(bench.watches()[1]["resourceVersion"]) == bench.cache.store(PODS).listed_at()


@pytest.mark.parametrize("codes", [[500], [429, 503], [403, 401, 500]])
async def test_failures_are_tried_again_with_pauses_and_after_a_listing(
    bench: Bench, codes: list[int]
) -> None:
    before = len(bench.watches()) + len(bench.watches("nodes"))
    bench.cluster.refuse.extend(codes)
    bench.cluster.hang_up()
    done = before + 2 + len(codes)
    await bench.until(
        lambda: len(bench.watches()) + len(bench.watches("nodes")) == done, "watches after failures"
    )
    await bench.until(lambda: bench.cluster.watching() == {"pods", "nodes"}, "all watches")
    assert len(bench.pauses) == len([code for code in codes if code != 403]), "a listing waits after a 403"
    assert bench.repaired, "it may be back with an older state"
    bench.cluster.api.put(PODS, pod("after"))
    await bench.until(lambda: "after" in bench.names(), "a pod after the failures")


@pytest.mark.parametrize(
    "event",
    [
        {"type": "ERROR", "object": {"kind": "Status", "code": 500, "message": "no"}},
        {"type": "ERROR", "object": {}},
        {"type": MODIFIED, "object": {}},
        {"type": DELETED, "object": {"metadata": {"name": "x"}}},
        {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "odd"}}},
        {},
    ],
)
async def test_odd_events_do_not_end_it(bench: Bench, event: dict[str, Any]) -> None:
    for kind in (PODS, NODES):
        for watched, queue in bench.cluster._watches:
            if watched == kind:
                queue.put_nowait(event)
    bench.cluster.hang_up()
    # The cluster in memory tells a watch only of what happens from then on.
    await bench.until(lambda: len(bench.cluster.watch_requests()) == 4, "other requests")
    await bench.until(lambda: bench.cluster.watching() == {"pods", "nodes"}, "all watches")
    bench.cluster.api.put(PODS, pod("after"))
    await bench.until(lambda: "after" in bench.names(), "a pod after the odd event")


async def test_each_namespace_has_a_watch_and_nodes_have_one() -> None:
    async with watchable((PODS, NODES)) as cluster:
        bench = Bench(cluster, "speech", "vision")
        await bench.start()
        await bench.until(lambda: len(cluster.watch_requests()) == 3, "three watches")
        assert sorted(cluster.watch_requests()) == [
            "/api/v1/namespaces/speech/pods",
            "/api/v1/namespaces/vision/pods",
            "/api/v1/nodes",
        ]
        await bench.end()


async def test_its_requests_are_signs_of_life(bench: Bench) -> None:
    assert not bench.monitor.silent()
    assert set(bench.monitor.staleness()) == {"pods", "nodes"}


@pytest.mark.parametrize("code", [403, 404])
async def test_a_refused_watch_is_reported_and_follows_a_listing(bench: Bench, code: int) -> None:
    pods = Source(PODS, None)
    bench.cluster.refuse_paths["/pods"] = code
    bench.cluster.hang_up()
    await bench.until(lambda: not bench.availability.is_on(pods), "the refusal to be known")
    assert bench.availability.is_on(Source(NODES, None)), "another kind is not concerned"
    assert bench.repaired.count(PODS) >= LASTING_REFUSALS - 1, "each attempt begins with a listing"
    bench.cluster.refuse_paths.clear()
    await bench.until(lambda: bench.availability.is_on(pods), "the watch to be accepted")
    await bench.until(lambda: bench.cluster.watching() == {"pods", "nodes"}, "all watches")
    bench.cluster.api.put(PODS, pod("after"))
    await bench.until(lambda: "after" in bench.names(), "a pod after the refusals")


async def test_what_was_not_listed_is_watched_once_it_was() -> None:
    async with watchable((PODS, NODES)) as cluster:
        bench = Bench(cluster)
        nodes, pods = Source(NODES, None), Source(PODS, None)
        await bench.repair(nodes)
        bench.run()
        await bench.until(lambda: cluster.watching() == {"nodes"}, "the watch of nodes")
        await bench.repair(pods)
        await bench.until(lambda: cluster.watching() == {"pods", "nodes"}, "both watches")
        await bench.end()


async def test_watches_that_end_at_once_are_repeated_with_pauses(bench: Bench) -> None:
    bench.cluster.close_at_once = True
    bench.cluster.hang_up()
    await bench.until(lambda: len(bench.pauses) >= 6, "pauses")
    ended = len(bench.watches()) + len(bench.watches("nodes"))
    # Each kind may end once without a pause: an API server that stops ends all watches.
    assert ended <= len(bench.pauses) + 2 * 3
    bench.cluster.close_at_once = False
    await bench.until(lambda: bench.cluster.watching() == {"pods", "nodes"}, "all watches")
    assert not bench.repaired, "nothing was missed"


async def test_watches_that_are_always_too_late_are_repeated_with_pauses(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = bench.repair

    async def repair(source: Source) -> None:
        bench.cluster.api.put(PODS, pod(f"busy-{len(bench.repaired)}"))
        await listed(source)

    monkeypatch.setattr(bench, "repair", repair)
    bench.cluster.refuse.extend([410] * 12)
    bench.cluster.hang_up()
    await bench.until(lambda: not bench.cluster.refuse, "all refusals")
    await bench.until(lambda: bench.cluster.watching() == {"pods", "nodes"}, "all watches")
    # Each kind may be too late once without a pause, and each was cut off once.
    assert len(bench.pauses) >= 12 - 2 * 2
