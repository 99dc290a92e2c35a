"""The operator's parts as one, and several operators of which one works, on a cluster in memory."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from serval_operator.api.naming import Key
from serval_operator.api.resources import LEASES, MODEL_DEPLOYMENTS
from serval_operator.config import Configuration, load_configuration
from serval_operator.controllers import Work
from serval_operator.errors import Fenced, KubeError, LeaseLost, ServalError
from serval_operator.manager import Operator
from serval_operator.runtime.authentication import Connection, Credentials
from serval_operator.runtime.event_recorder import EventRecorder
from serval_operator.settings import Settings
from support.watchable import Watchable, watchable
from support.watched import WATCHED

pytestmark = pytest.mark.unit

LIMIT = 20.0
MODEL = {"metadata": {"namespace": "vision", "name": "resnet"}, "spec": {}}
HOME, LEASE = "serval-system", "serval-operator"
ANOTHER = {"metadata": {"namespace": HOME, "name": LEASE}, "spec": {"holderIdentity": "another"}}

KEY, OTHER = (Key("ModelDeployment", "vision", name) for name in ("resnet", "vgg"))


class Bench:
    """Operators on a cluster in memory, in this process."""

    def __init__(self, cluster: Watchable, configuration: Configuration) -> None:
        self.cluster = cluster
        self.settings = Settings(
            http_host="127.0.0.1",
            http_port=0,
            start_seconds=10,
            watch_backoffs=(0.01,) * 3,
            workers=2,
            kinds=("ModelDeployment",),
        )
        self.configuration = configuration
        self.running: dict[Operator, asyncio.Task[None]] = {}

    def start(self) -> Operator:
        """Start one more operator."""
        connection = Connection(self.cluster.url, True, Credentials(lambda: None, renewable=False))
        self.operator = Operator(self.settings, self.configuration, connection)
        self.running[self.operator] = asyncio.create_task(self.operator.run())
        return self.operator

    async def ask(self, path: str, operator: Operator | None = None) -> tuple[int, str]:
        """Code and text of an operator's answer, of the newest one where none is named."""
        port = (operator or self.operator).port
        if not port:
            return 0, ""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{port}{path}") as response,
        ):
            return response.status, await response.text()

    async def until(self, check: Callable[[], object], what: str) -> None:
        """Wait until something holds."""
        try:
            async with asyncio.timeout(LIMIT):
                while not check():  # noqa: ASYNC110 - what is waited for sets no event
                    await asyncio.sleep(0.005)
        except TimeoutError:
            raise AssertionError(f"{what}: not in time") from None

    async def ready(self) -> str:
        """Wait until the newest operator says that it is ready, and give its words."""
        async with asyncio.timeout(LIMIT):
            while True:
                status, text = await self.ask("/readyz")
                if status == 200:
                    return text
                await asyncio.sleep(0.005)

    def listings(self, end: str) -> int:
        """How many listings there were of paths that end so."""
        return len(
            [1 for _, path, query in self.cluster.requests if path.endswith(end) and "watch" not in query]
        )

    async def unready(self, text: str) -> None:
        """Wait until the newest operator says that it is not ready, in these words."""
        async with asyncio.timeout(LIMIT):
            while await self.ask("/readyz") != (503, text):  # noqa: ASYNC110 - it sets no event
                await asyncio.sleep(0.005)

    async def ended(self, operator: Operator | None = None) -> None:
        """Wait for the end of an operator; raises what ended it."""
        async with asyncio.timeout(LIMIT):
            await self.running[operator or self.operator]

    def work(self, operator: Operator | None = None) -> Work:
        """The work of an operator that works."""
        work = (operator or self.operator).work
        assert work is not None
        return work

    def elect(self, seconds: int = 5) -> None:
        """Let operators to come ask for a Lease."""
        self.settings = replace(self.settings, lease_name=LEASE, lease_namespace=HOME, lease_seconds=seconds)

    def lease(self) -> dict[str, Any]:
        """The record as it stands."""
        found = self.cluster.api.stored(LEASES, HOME, LEASE)
        assert found is not None
        spec: dict[str, Any] = found["spec"]
        return spec


@pytest.fixture
async def bench(config_file: Path) -> AsyncIterator[Bench]:
    async with watchable(WATCHED) as cluster:
        bench = Bench(cluster, load_configuration(config_file))
        yield bench
        for operator in bench.running:
            operator.stop()
        await asyncio.gather(*bench.running.values(), return_exceptions=True)


# --- the parts as one -----------------------------------------------------------------------------------


async def test_it_serves_what_is_there_and_what_comes(bench: Bench) -> None:
    bench.cluster.api.put(MODEL_DEPLOYMENTS, MODEL)
    operator = bench.start()
    assert await bench.ready() == "ok"
    await bench.until(lambda: "reconcile_seconds_count" in operator.metrics.text().decode(), "a reconcile")
    other = {"metadata": {"namespace": "vision", "name": "vgg"}, "spec": {}}
    bench.cluster.api.put(MODEL_DEPLOYMENTS, other)
    await bench.until(lambda: bench.work().cache.owner(OTHER), "the other one")
    page = (await bench.ask("/metrics"))[1]
    assert 'serval_operator_cached_objects{resource="modeldeployments"} 2.0' in page
    assert "serval_operator_queue_depth 0.0" in page
    assert 'serval_operator_watch_staleness_seconds{resource="pods"}' in page
    assert "serval_operator_leader 1.0" in page
    operator.stop()
    await bench.ended()


async def test_it_serves_from_an_api_server_behind_a_path(config_file: Path) -> None:
    async with watchable(WATCHED, prefix="/k8s/clusters/c-1") as cluster:
        cluster.api.put(MODEL_DEPLOYMENTS, MODEL)
        bench = Bench(cluster, load_configuration(config_file))
        operator = bench.start()
        assert await bench.ready() == "ok"
        assert cluster.watching() == {resource.plural for resource in WATCHED}
        assert bench.work().cache.owner(KEY)
        operator.stop()
        await bench.ended()


async def test_events_are_dated_by_the_clock_of_the_api_server(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[EventRecorder] = []

    def record(*arguments: Any, **options: Any) -> EventRecorder:
        made.append(EventRecorder(*arguments, **options))
        return made[-1]

    monkeypatch.setattr("serval_operator.controllers.EventRecorder", record)
    operator = bench.start()
    await bench.ready()
    assert [recorder._now for recorder in made] == [operator._clock.now]


@pytest.mark.parametrize("allowed", [True, False])
async def test_nodes_are_watched_where_that_is_allowed(bench: Bench, *, allowed: bool) -> None:
    bench.cluster.allowed = allowed
    bench.start()
    await bench.ready()
    assert ("nodes" in bench.cluster.watching()) is allowed
    assert "pods" in bench.cluster.watching()


async def test_nodes_are_watched_once_that_is_allowed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serval_operator.runtime.access_review.REVIEW_SECONDS", 0.01)
    monkeypatch.setattr("serval_operator.runtime.access_review.LEAST_SECONDS", 0.01)
    bench.cluster.allowed = False
    bench.start()
    assert await bench.ready() == "ok", "an operator that needs no nodes lacks nothing"
    assert not bench.work().watching.access().nodes
    bench.cluster.allowed = True
    await bench.until(lambda: bench.work().watching.access().nodes, "the nodes")
    await bench.until(lambda: "nodes" in bench.cluster.watching(), "the watch of nodes")
    bench.cluster.refuse_paths["/nodes"] = 403
    bench.cluster.hang_up()
    await bench.until(lambda: not bench.work().watching.access().nodes, "the refusal")
    assert (await bench.ask("/readyz")) == (200, "ok: nodes is off: refused")


async def test_nothing_is_done_while_a_needed_child_kind_cannot_be_seen(bench: Bench) -> None:
    bench.cluster.refuse_paths["/services"] = 403
    bench.cluster.api.put(MODEL_DEPLOYMENTS, MODEL)
    operator = bench.start()
    await bench.until(lambda: operator.work, "the work to begin")
    await bench.unready("no kind can be served: services is off: refused")
    work = bench.work()
    await bench.until(lambda: work.queue.state().waiting + work.queue.state().active == 0, "an idle queue")
    bench.cluster.api.edit(MODEL_DEPLOYMENTS, "vision", "resnet", lambda one: one["spec"].update(replicas=2))
    await bench.until(lambda: work.queue.state().waiting + work.queue.state().active == 0, "an idle queue")
    assert not [one for one in bench.cluster.requests if one[0] == "PATCH"]
    bench.cluster.refuse_paths.clear()
    await bench.until(lambda: [one for one in bench.cluster.requests if one[0] == "PATCH"], "a write")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_in_peace(bench: Bench, number: signal.Signals) -> None:
    bench.start()
    await bench.ready()
    os.kill(os.getpid(), number)
    await bench.ended()


async def test_a_signal_ends_it_before_it_began(bench: Bench) -> None:
    bench.cluster.refuse = [403] * 100_000
    bench.start()
    await bench.until(lambda: bench.cluster.requests, "a first attempt")
    assert (await bench.ask("/readyz")) == (503, "the first listing is not complete")
    assert (await bench.ask("/healthz"))[0] == 200
    os.kill(os.getpid(), signal.SIGTERM)
    await bench.ended()


async def test_a_cluster_that_refuses_ends_it_with_its_words(bench: Bench) -> None:
    bench.settings = replace(bench.settings, start_seconds=0.2)
    bench.cluster.refuse = [403] * 100_000
    bench.start()
    with pytest.raises(KubeError, match="403"):
        await bench.ended()


async def test_a_crd_that_goes_away_does_not_end_it(bench: Bench) -> None:
    operator = bench.start()
    await bench.ready()
    # The first listing, that of kopf, and the one after kopf began to watch: no other is due.
    await bench.until(lambda: bench.listings("/modeldeployments") == 3, "all listings")
    bench.cluster.refuse_paths["/modeldeployments"] = 404
    bench.cluster.hang_up()
    await bench.unready("no kind can be served: modeldeployments is off: refused")
    assert (await bench.ask("/healthz"))[0] == 200
    assert 'watch_up{namespace="",resource="modeldeployments"} 0.0' in (await bench.ask("/metrics"))[1]
    assert 'watch_up{namespace="",resource="pods"} 1.0' in (await bench.ask("/metrics"))[1]
    bench.cluster.refuse_paths.clear()
    assert await bench.ready() == "ok"
    bench.cluster.api.put(MODEL_DEPLOYMENTS, MODEL)
    await bench.until(lambda: bench.work().cache.owner(KEY), "a new object")
    assert not bench.running[operator].done()


async def test_the_end_of_any_part_ends_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: object) -> None:
        return None

    monkeypatch.setattr("serval_operator.controllers.resync", nothing)
    bench.start()
    with pytest.raises(ServalError, match="resync ended"):
        await bench.ended()


async def test_what_is_in_flight_is_finished(bench: Bench) -> None:
    operator = bench.start()
    await bench.ready()
    queue = bench.work().queue
    entered, gate, done = asyncio.Event(), asyncio.Event(), []

    async def slow(_: tuple[str, str]) -> None:
        entered.set()
        # In tasks of its own, as the reconciler does for children.
        await asyncio.gather(gate.wait(), gate.wait())
        done.append(True)

    queue._reconcile = slow  # type: ignore[assignment]
    queue.add(KEY)
    await entered.wait()
    operator.stop()
    await bench.until(lambda: queue._stopping, "the end of taking")
    gate.set()
    await bench.ended()
    assert done == [True]


async def test_what_does_not_end_is_cut_off(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.settings = replace(bench.settings, stop_grace_seconds=0.05)
    operator = bench.start()
    await bench.ready()
    entered = asyncio.Event()

    async def endless(_: tuple[str, str]) -> None:
        entered.set()
        await asyncio.Event().wait()

    bench.work().queue._reconcile = endless  # type: ignore[assignment]
    bench.work().queue.add(KEY)
    await entered.wait()
    operator.stop()
    with caplog.at_level(logging.WARNING):
        await bench.ended()
    assert "cut off" in caplog.text


async def test_hanging_work_and_dead_workers_fail_the_probe(bench: Bench) -> None:
    bench.start()
    await bench.ready()
    queue = bench.work().queue
    state = queue.state()
    queue.state = lambda: replace(state, stalled=301.0)  # type: ignore[method-assign]
    assert (await bench.ask("/healthz"))[0] == 503
    queue.state = lambda: replace(state, workers=1)  # type: ignore[method-assign]
    assert await bench.ask("/healthz") == (503, "1 of 2 workers are alive")
    queue.state = lambda: state  # type: ignore[method-assign]
    assert (await bench.ask("/healthz"))[0] == 200


async def test_a_watch_that_stopped_fails_the_probe(bench: Bench) -> None:
    bench.start()
    await bench.ready()
    limit = bench.settings.watch_timeout_seconds + 361.0
    bench.work().watching.monitor.idleness = lambda: limit  # type: ignore[method-assign]
    assert await bench.ask("/healthz") == (503, f"a watch was not renewed for {limit:.0f} s")


# --- one of several -------------------------------------------------------------------------------------


async def test_who_stands_by_asks_for_nothing_but_the_lease(bench: Bench) -> None:
    bench.elect()
    bench.cluster.api.put(MODEL_DEPLOYMENTS, MODEL)
    before = bench.cluster.api.put(LEASES, ANOTHER)
    operator = bench.start()
    assert await bench.ready() == "ok: standing by, another works"
    assert operator.work is None
    assert (await bench.ask("/healthz"))[0] == 200
    assert "serval_operator_leader 0.0" in (await bench.ask("/metrics"))[1]
    with pytest.raises(Fenced):
        await operator._client.delete(MODEL_DEPLOYMENTS, "vision", "resnet", uid="x")
    operator.stop()
    await bench.ended()
    assert {path.rsplit("/", 2)[1] for _, path, _ in bench.cluster.requests} == {"leases"}
    assert bench.cluster.api.stored(LEASES, HOME, LEASE) == before


async def test_who_never_saw_the_lease_is_not_ready(bench: Bench) -> None:
    bench.elect()
    bench.cluster.refuse = [403] * 100_000
    bench.start()
    await bench.until(lambda: bench.operator._elector and bench.operator._elector.trouble, "an answer")
    status, text = await bench.ask("/readyz")
    assert status == 503
    assert text.startswith(f"Lease {HOME}/{LEASE} was not seen yet 403 ")


async def test_one_that_ends_hands_over_at_once(bench: Bench) -> None:
    bench.elect()
    bench.cluster.api.put(MODEL_DEPLOYMENTS, MODEL)
    first = bench.start()
    assert await bench.ready() == "ok"
    holder = bench.lease()["holderIdentity"]
    second = bench.start()
    assert await bench.ready() == f"ok: standing by, {holder} works"
    assert second.work is None
    first.stop()
    await bench.ended(first)
    # Sooner than the Lease runs out: it was given back.
    async with asyncio.timeout(bench.settings.lease_seconds - 1):
        while second.work is None:  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.005)
    assert await bench.ready() == "ok"
    assert bench.lease()["holderIdentity"] not in (None, holder)
    assert bench.work().cache.owner(KEY) is not None


async def test_a_lease_that_is_lost_ends_it(bench: Bench) -> None:
    bench.elect()
    operator = bench.start()
    await bench.ready()
    stolen = bench.cluster.api.edit(
        LEASES, HOME, LEASE, lambda obj: obj["spec"].update(holderIdentity="another")
    )
    with pytest.raises(LeaseLost, match="is held by another"):
        await bench.ended()
    assert bench.cluster.api.stored(LEASES, HOME, LEASE) == stolen
    assert not operator._leads()


async def test_one_that_cannot_renew_the_lease_writes_nothing_until_it_can(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """An API server that is away for long ends no operator."""
    bench.elect()
    operator = bench.start()
    await bench.ready()
    bench.cluster.refuse = [503] * 100_000
    await bench.until(lambda: "is not held; nothing is written" in caplog.text, "the end of its time")
    status, text = await bench.ask("/readyz")
    assert status == 503
    assert text.startswith(f"Lease {HOME}/{LEASE} is not held 503 ")
    assert (await bench.ask("/healthz"))[0] == 200
    with pytest.raises(Fenced):
        await operator._client.delete(MODEL_DEPLOYMENTS, "vision", "resnet", uid="x")
    bench.cluster.refuse = []
    await bench.until(operator._leads, "the Lease")
    assert await bench.ready() == "ok"
    operator.stop()
    await bench.ended()


async def test_reconciles_without_the_lease_get_no_time(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """They cannot write any more, and another operator may work already."""
    bench.elect()
    bench.settings = replace(bench.settings, stop_grace_seconds=3600)
    bench.start()
    await bench.ready()
    entered = asyncio.Event()

    async def endless(_: tuple[str, str]) -> None:
        entered.set()
        await asyncio.Event().wait()

    bench.work().queue._reconcile = endless  # type: ignore[assignment]
    bench.work().queue.add(KEY)
    await entered.wait()
    bench.cluster.api.edit(LEASES, HOME, LEASE, lambda obj: obj["spec"].update(holderIdentity="another"))
    with caplog.at_level(logging.WARNING), pytest.raises(LeaseLost):
        await bench.ended()
    assert "cut off" in caplog.text
