from __future__ import annotations

from dataclasses import replace

import pytest

from serval_operator.api.resources import MODEL_DEPLOYMENTS, NODES, PODS
from serval_operator.runtime.authentication import Connection
from serval_operator.runtime.availability import LASTING_REFUSALS, Source
from serval_operator.runtime.watch_health import WatchMonitor
from support.apiserver import Script, raw
from support.clock import FakeClock
from support.watched import availability

PODS_PATH = "/api/v1/pods"
MODELS_PATH = "/apis/serval.dev/v1alpha1/modeldeployments"


class Setup:
    def __init__(self, connection: Connection, script: Script, *namespaces: str | None) -> None:
        self.clock = FakeClock()
        self.gaps: list[Source] = []
        self.availability = availability(*namespaces, kinds=[MODEL_DEPLOYMENTS, PODS])
        for source in self.availability.sources:
            self.availability.listed(source)
        self.monitor = WatchMonitor(self.availability, self.gaps.append, self.clock)
        self.connection, self.script = connection, script

    async def ask(self, path: str, answer: int = 200) -> None:
        self.script.says(raw("{}", answer))
        async with (
            self.connection.session(traces=[self.monitor.trace()]) as session,
            session.get(self.connection.server + path),
        ):
            pass


@pytest.fixture
def at(connection: Connection, script: Script) -> Setup:
    return Setup(connection, script, None)


async def test_a_watch_after_a_listing_of_the_watcher_is_a_gap(at: Setup) -> None:
    await at.ask(f"{PODS_PATH}?limit=500")
    assert at.gaps == []
    await at.ask(f"{PODS_PATH}?watch=true&resourceVersion=5")
    assert at.gaps == [Source(PODS, None)]
    await at.ask(f"{PODS_PATH}?watch=true&resourceVersion=9")
    assert at.gaps == [Source(PODS, None)], "a renewed watch goes on where the last one ended"
    await at.ask(f"{PODS_PATH}?limit=500")
    await at.ask(f"{PODS_PATH}?limit=500&continue=x")
    await at.ask(f"{PODS_PATH}?watch=true")
    assert at.gaps == 2 * [Source(PODS, None)]


async def test_other_requests_do_not_count(at: Setup) -> None:
    at.clock.now += 100
    for path in ("/api/v1", "/api/v1/namespaces/vision/pods?watch=true", "/version"):
        await at.ask(path)
    assert at.gaps == []
    assert at.monitor.idleness() == 100


async def test_staleness_is_since_the_last_good_answer(at: Setup) -> None:
    at.clock.now += 50
    await at.ask(f"{PODS_PATH}?watch=true")
    at.clock.now += 7
    assert at.monitor.staleness() == {"modeldeployments": 57, "pods": 7}
    await at.ask(f"{PODS_PATH}?watch=true", answer=503)
    assert at.monitor.staleness()["pods"] == 7


async def test_idleness_counts_attempts_of_the_laziest(at: Setup) -> None:
    at.clock.now += 50
    await at.ask(f"{MODELS_PATH}?watch=true", answer=503)
    assert at.monitor.idleness() == 50
    await at.ask(f"{PODS_PATH}?watch=true", answer=503)
    assert at.monitor.idleness() == 0


async def test_silent_until_a_watch_was_accepted(at: Setup) -> None:
    assert at.monitor.silent() == [PODS_PATH, MODELS_PATH]
    await at.ask(f"{PODS_PATH}?limit=500")
    await at.ask(f"{PODS_PATH}?watch=true", answer=403)
    assert at.monitor.silent() == [PODS_PATH, MODELS_PATH]
    await at.ask(f"{PODS_PATH}?watch=true")
    assert at.monitor.silent() == [MODELS_PATH]


async def test_an_api_server_behind_a_path(connection: Connection, script: Script) -> None:
    prefix, gaps = "/k8s/clusters/c-1", list[Source]()
    behind = replace(connection, server=connection.server + prefix)
    state = availability(kinds=[PODS])
    state.listed(Source(PODS, None))
    monitor = WatchMonitor(state, gaps.append, prefix=behind.prefix)
    script.says(raw("{}"))
    async with behind.session(traces=[monitor.trace()]) as session:
        for query in ("limit=500", "watch=true"):
            async with session.get(f"{behind.server}{PODS_PATH}?{query}"):
                pass
    assert script.asked[-1].path == prefix + PODS_PATH
    assert gaps == [Source(PODS, None)]
    assert monitor.silent() == []


def test_what_has_no_namespace_has_one_watch() -> None:
    state = availability("vision", "speech", kinds=[NODES, PODS])
    monitor = WatchMonitor(state, lambda _: None)
    for source in state.sources:
        state.listed(source)
    assert monitor.silent() == [
        "/api/v1/namespaces/speech/pods",
        "/api/v1/namespaces/vision/pods",
        "/api/v1/nodes",
    ]


async def test_each_namespace_has_watches_of_its_own(connection: Connection, script: Script) -> None:
    setup = Setup(connection, script, "vision", "speech")
    setup.clock.now += 30
    await setup.ask("/api/v1/namespaces/vision/pods?watch=true")
    assert setup.monitor.staleness()["pods"] == 30
    assert "/api/v1/namespaces/vision/pods" not in setup.monitor.silent()
    assert "/api/v1/namespaces/speech/pods" in setup.monitor.silent()


async def test_what_is_off_is_neither_silent_nor_idle(at: Setup) -> None:
    pods = Source(PODS, None)
    at.clock.now += 50
    await at.ask(f"{MODELS_PATH}?watch=true")
    for _ in range(LASTING_REFUSALS):
        at.availability.refused(pods, "no role")
    assert at.monitor.silent() == []
    assert at.monitor.idleness() == 0
    assert "pods" not in at.monitor.staleness()
    at.availability.listed(pods)
    at.monitor.expect(pods)
    assert at.monitor.silent() == [PODS_PATH]
    assert at.monitor.idleness() == 0, "it is expected from now on"


async def test_an_accepted_watch_cures_a_refused_one(at: Setup) -> None:
    pods = Source(PODS, None)
    for _ in range(LASTING_REFUSALS):
        at.availability.watch_refused(pods, "no watching")
    at.availability.listed(pods)
    assert not at.availability.is_on(pods), "a listing does not show that it can be watched"
    await at.ask(f"{PODS_PATH}?watch=true")
    assert at.availability.is_on(pods)


async def test_a_listing_that_the_watch_waits_for_is_a_try(at: Setup) -> None:
    at.clock.now += 700
    for source in at.availability.sources:
        at.monitor.tried(source)
    assert at.monitor.idleness() == 0
    assert at.monitor.staleness() == {"modeldeployments": 700, "pods": 700}
