"""One kopf for each source: started once it can be watched, restarted when it ended, stopped when off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from serval_operator.api.naming import Key
from serval_operator.api.resources import MODEL_DEPLOYMENTS, PODS
from serval_operator.informer import informers
from serval_operator.informer.informers import Informers
from serval_operator.informer.login import WATCH_SECONDS
from serval_operator.runtime.authentication import Connection, Credentials
from serval_operator.runtime.availability import Source
from serval_operator.runtime.cache import Cache
from serval_operator.runtime.watch_health import WatchMonitor
from serval_operator.settings import Settings
from support.wait import until_while_running
from support.watchable import Watchable, watchable
from support.watched import OWNERS, availability

pytestmark = pytest.mark.unit

LIMIT = 20.0
SERVED = (MODEL_DEPLOYMENTS, PODS)
"""What discovery lists; kopf also looks for kinds of the core group."""
NAMESPACES = ("speech", "vision")
SPEECH, VISION = (Source(MODEL_DEPLOYMENTS, namespace) for namespace in NAMESPACES)
KEY = Key("ModelDeployment", "vision", "resnet")
MODEL = {"metadata": {"namespace": "vision", "name": "resnet"}, "spec": {}}


class Bench:
    """Informers of two namespaces on a cluster in memory, of which nothing was listed yet."""

    def __init__(self, cluster: Watchable) -> None:
        self.cluster = cluster
        self.cache = Cache(OWNERS)
        self.refusals: list[Source] = []
        self.availability = availability(*NAMESPACES, kinds=OWNERS)
        self.monitor = WatchMonitor(self.availability, lambda _: None)
        self.informers = Informers(
            Connection(cluster.url, True, Credentials(lambda: None, renewable=False)),
            self.cache,
            (SPEECH, VISION),
            lambda _: None,
            replace(Settings(), watch_namespaces=NAMESPACES, watch_backoffs=(0.01,)),
            self.availability,
            self.monitor,
            self.monitor.trace(),
            self.refused,
            lambda: None,
        )
        self.running = asyncio.ensure_future(self.informers.run())

    def refused(self, source: Source, problem: str) -> None:
        assert problem == "refused"
        self.refusals.append(source)
        self.availability.watch_refused(source, problem)

    async def until(self, check: Callable[[], object], what: str) -> None:
        await until_while_running(what, check, self.running)

    def watches(self, namespace: str) -> int:
        """How many watch requests of a namespace there were."""
        return self.cluster.watch_requests().count(MODEL_DEPLOYMENTS.path(namespace))


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with watchable(SERVED) as cluster:
        bench = Bench(cluster)
        yield bench
        bench.informers.stop()
        async with asyncio.timeout(LIMIT):
            await bench.running


async def test_only_what_was_listed_is_watched(bench: Bench) -> None:
    bench.availability.listed(VISION)
    await bench.until(lambda: bench.watches("vision"), "a watch")
    bench.cluster.api.put(MODEL_DEPLOYMENTS, MODEL)
    await bench.until(lambda: bench.cache.owner(KEY), "the object")
    assert not bench.watches("speech")
    bench.availability.listed(SPEECH)
    await bench.until(lambda: bench.watches("speech"), "the other watch")
    assert bench.watches("vision") == 1, "nothing happened to the first one"


@pytest.mark.parametrize("code", [403, 404])
async def test_a_refused_source_stops_no_other_and_comes_back(
    bench: Bench, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    for source in (SPEECH, VISION):
        bench.availability.listed(source)
    await bench.until(lambda: bench.watches("speech") and bench.watches("vision"), "both watches")
    bench.cluster.refuse_paths["/namespaces/speech/modeldeployments"] = code
    bench.cluster.hang_up()
    await bench.until(lambda: bench.refusals == [SPEECH], "the refusal")
    await bench.until(lambda: bench.watches("vision") == 2, "the renewal of the other")
    bench.cluster.api.put(MODEL_DEPLOYMENTS, MODEL)
    await bench.until(lambda: bench.cache.owner(KEY), "the object")
    refused = bench.watches("speech")
    bench.cluster.refuse_paths.clear()
    bench.availability.listed(SPEECH)
    await bench.until(lambda: bench.watches("speech") > refused, "another watch")
    assert bench.refusals == [SPEECH], "a refused source is left alone until it was listed"
    assert not [one for one in caplog.records if one.levelname == "ERROR"]


async def test_a_kopf_that_ends_is_started_again(bench: Bench) -> None:
    bench.availability.listed(VISION)
    await bench.until(bench.cluster.watching, "a watch")
    # An error in the stream other than 410 ends kopf.
    bench.cluster.tell(MODEL_DEPLOYMENTS, "ERROR", {"kind": "Status", "code": 500, "message": "no"})
    await bench.until(lambda: bench.watches("vision") == 2, "a watch of another kopf")
    bench.cluster.api.put(MODEL_DEPLOYMENTS, MODEL)
    await bench.until(lambda: bench.cache.owner(KEY), "the object")


async def test_a_kopf_that_does_not_find_the_kind_looks_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Discovery may list a new kind later than its objects can be listed."""
    monkeypatch.setattr(informers, "FIRST_PATIENCE", 0.2)
    bench.cluster.resources = (PODS,)
    bench.availability.listed(VISION)
    await bench.until(lambda: bench.cluster.discoveries > 0, "a look at discovery")
    bench.cluster.resources = SERVED
    await bench.until(lambda: bench.watches("vision"), "a watch")


async def test_watches_that_end_at_once_are_paced(bench: Bench) -> None:
    bench.cluster.close_at_once = True
    bench.availability.listed(VISION)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await bench.until(lambda: bench.watches("vision") >= 3, "three watches")
    assert loop.time() - began >= 2 * 0.95 * WATCH_SECONDS, "but for what a timer may be early"
