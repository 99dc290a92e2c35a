"""The entry point: its flags, and the operator's parts as one, on a cluster in memory."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
import yaml

from serval_operator.__main__ import Operator, main, serve
from serval_operator.config import Configuration, load_configuration
from serval_operator.errors import KubeError, ServalError
from serval_operator.kube.auth import Connection, Credentials
from serval_operator.kube.cache import SELECTORS
from serval_operator.kube.protocol import MODEL_DEPLOYMENTS
from serval_operator.settings import Settings
from support.operator import CONFIGURATION
from support.watchable import Watchable, watchable

LIMIT = 20.0
MODEL = {"metadata": {"namespace": "vision", "name": "resnet"}, "spec": {}}


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(CONFIGURATION))
    return path


# --- flags ----------------------------------------------------------------------------------------------


def test_check_config_says_ok(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check-config"], {"SERVAL_CONFIG_FILE": str(config_file)}) == 0
    assert capsys.readouterr().out == f"{config_file}: ok\n"


@pytest.mark.parametrize("arguments", [["--check-config"], []])
def test_a_wrong_setting_is_one_line_and_exit_2(
    arguments: list[str], config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    env = {"SERVAL_CONFIG_FILE": str(config_file), "SERVAL_WORKERS": "none"}
    assert main(arguments, env) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("serval-operator: SERVAL_WORKERS: must be")


def test_a_wrong_configuration_is_one_line_and_exit_2(
    config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config_file.write_text("apiVersion: x\n")
    assert main([], {"SERVAL_CONFIG_FILE": str(config_file)}) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert str(config_file) in error


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("serval-operator ")


async def test_no_cluster_is_exit_2(config_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings(kubeconfig="/nonexistent/kubeconfig")
    assert await serve(settings, load_configuration(config_file)) == 2
    assert "no cluster can be reached" in caplog.text


# --- the parts as one -----------------------------------------------------------------------------------


class Bench:
    """An operator on a cluster in memory, in this process."""

    def __init__(self, cluster: Watchable, configuration: Configuration) -> None:
        self.cluster = cluster
        self.settings = Settings(
            http_host="127.0.0.1", http_port=0, start_seconds=10, watch_backoffs=(0.01,) * 3, workers=2
        )
        self.configuration = configuration
        self.running: asyncio.Future[None] | None = None

    def start(self) -> Operator:
        connection = Connection(self.cluster.url, True, Credentials(lambda: None, renewable=False))
        self.operator = Operator(self.settings, self.configuration, connection)
        self.running = asyncio.ensure_future(self.operator.run())
        return self.operator

    async def ask(self, path: str) -> tuple[int, str]:
        if not self.operator.port:
            return 0, ""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.operator.port}{path}") as response,
        ):
            return response.status, await response.text()

    async def until(self, check: Callable[[], object], what: str) -> None:
        try:
            async with asyncio.timeout(LIMIT):
                while not check():  # noqa: ASYNC110 - what is waited for sets no event
                    await asyncio.sleep(0.005)
        except TimeoutError:
            raise AssertionError(f"{what}: not in time") from None

    async def ready(self) -> None:
        async with asyncio.timeout(LIMIT):
            while (await self.ask("/readyz"))[0] != 200:  # noqa: ASYNC110 - the other side is HTTP
                await asyncio.sleep(0.005)

    async def ended(self) -> None:
        assert self.running is not None
        async with asyncio.timeout(LIMIT):
            await self.running


@pytest.fixture
async def bench(config_file: Path) -> AsyncIterator[Bench]:
    async with watchable(tuple(SELECTORS)) as cluster:
        bench = Bench(cluster, load_configuration(config_file))
        yield bench
        if bench.running and not bench.running.done():
            bench.operator.stop()
            await asyncio.gather(bench.running, return_exceptions=True)


async def test_it_serves_what_is_there_and_what_comes(bench: Bench) -> None:
    bench.cluster.api.put(MODEL_DEPLOYMENTS, MODEL)
    operator = bench.start()
    await bench.ready()
    await bench.until(lambda: "reconcile_seconds_count" in operator.metrics.text().decode(), "a reconcile")
    other = {"metadata": {"namespace": "vision", "name": "vgg"}, "spec": {}}
    bench.cluster.api.put(MODEL_DEPLOYMENTS, other)
    await bench.until(lambda: operator.cache.model(("vision", "vgg")), "the other one")
    page = (await bench.ask("/metrics"))[1]
    assert 'serval_operator_cached_objects{resource="modeldeployments"} 2.0' in page
    assert "serval_operator_queue_depth 0.0" in page
    assert 'serval_operator_watch_staleness_seconds{resource="pods"}' in page
    operator.stop()
    await bench.ended()


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


async def test_the_end_of_the_watches_ends_it(bench: Bench) -> None:
    bench.start()
    await bench.ready()
    bench.cluster.refuse = [500] * 100_000
    bench.cluster.hang_up()
    with pytest.raises(Exception, match=r"500|Refused"):
        await bench.ended()


async def test_the_end_of_any_part_ends_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: object) -> None:
        return None

    monkeypatch.setattr("serval_operator.__main__.resync", nothing)
    bench.start()
    with pytest.raises(ServalError, match="resync ended"):
        await bench.ended()


async def test_what_is_in_flight_is_finished(bench: Bench) -> None:
    operator = bench.start()
    await bench.ready()
    entered, gate, done = asyncio.Event(), asyncio.Event(), []

    async def slow(_: tuple[str, str]) -> None:
        entered.set()
        # In tasks of its own, as the reconciler does for children.
        await asyncio.gather(gate.wait(), gate.wait())
        done.append(True)

    operator.queue._reconcile = slow  # type: ignore[assignment]
    operator.queue.add(("vision", "resnet"))
    await entered.wait()
    operator.stop()
    await bench.until(lambda: operator.queue._stopping, "the end of taking")
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

    operator.queue._reconcile = endless  # type: ignore[assignment]
    operator.queue.add(("vision", "resnet"))
    await entered.wait()
    operator.stop()
    with caplog.at_level(logging.WARNING):
        await bench.ended()
    assert "cut off" in caplog.text


async def test_hanging_work_and_dead_workers_fail_the_probe(bench: Bench) -> None:
    operator = bench.start()
    await bench.ready()
    state = operator.queue.state()
    operator.queue.state = lambda: replace(state, stalled=301.0)  # type: ignore[method-assign]
    assert (await bench.ask("/healthz"))[0] == 503
    operator.queue.state = lambda: replace(state, workers=1)  # type: ignore[method-assign]
    assert await bench.ask("/healthz") == (503, "1 of 2 workers are alive")
    operator.queue.state = lambda: state  # type: ignore[method-assign]
    assert (await bench.ask("/healthz"))[0] == 200


async def test_a_watch_that_stopped_fails_the_probe(bench: Bench) -> None:
    operator = bench.start()
    await bench.ready()
    operator._monitor.idleness = lambda: 601.0  # type: ignore[method-assign]
    status, text = await bench.ask("/healthz")
    assert (status, text) == (503, "a watch was not renewed for 601 s")


async def test_the_failure_of_a_part_is_logged_and_exit_1(
    config_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with watchable(tuple(SELECTORS)) as cluster:
        cluster.refuse = [500] * 100_000
        kubeconfig = tmp_path / "kubeconfig"
        named = {"cluster": "c", "user": "u"}
        document = {
            "clusters": [{"name": "c", "cluster": {"server": cluster.url}}],
            "users": [{"name": "u", "user": {"token": "abc"}}],
            "contexts": [{"name": "x", "context": named}],
            "current-context": "x",
        }
        kubeconfig.write_text(json.dumps(document))
        settings = Settings(kubeconfig=str(kubeconfig), http_host="127.0.0.1", http_port=0, start_seconds=1.0)
        assert await serve(settings, load_configuration(config_file)) == 1
    assert "ends: 500" in caplog.text
