"""A front from its start to its end, and what becomes of it when the server behind goes and comes back."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serval_serving.wire import rpc
from support.whole import amount, note
from unit.serving.proxy.recorder import AVAILABLE, LOADING, Recorder
from unit.serving.server.fake_engine import write_version
from unit.serving.server.grpc_calls import in_flight, refused
from unit.serving.server.processes import FAKE, Server, front_of, running, wait_until
from unit.serving.server.test_lifecycle import load_on, request

LIMIT = 30.0
LARGE = 100_000
"""Numbers of a request that does not fit into the buffers of a connection."""
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
STATES = health_pb2.HealthCheckResponse
Start = Callable[..., Server]


@pytest.fixture
def behind() -> Iterator[Recorder]:
    """A server for one test, not started."""
    server = Recorder()
    yield server
    server.stop()


@contextmanager
def fake_pair(tmp_path: Path, *flags: str, behavior: dict[str, Any] | None = None) -> Iterator[Server]:
    """A front before our own server with a model that starts at once."""
    write_version(tmp_path / "m", 1, **(behavior or {}))
    own = ("--model_name=m", f"--model_base_path={tmp_path / 'm'}", "--engine_threads=8")
    with (
        running(Server(FAKE, tmp_path / "behind", *own)) as server,
        running(front_of(server, tmp_path / "front", "--model_name=m", *flags)) as front,
    ):
        yield front.wait_ready()


def health(channel: grpc.Channel) -> int:
    stub = health_pb2_grpc.HealthStub(channel)
    status: int = stub.Check(health_pb2.HealthCheckRequest(), timeout=LIMIT).status
    return status


# Start.


def test_the_ports_open_only_once_the_model_serves(behind: Recorder, start: Start) -> None:
    behind.states = {3: LOADING}
    front = start(f"--upstream={behind.address}")
    wait_until("it waits", lambda: "does not answer" in front.log)
    assert front.closed()
    behind.start()
    wait_until("it is told", lambda: "no version of model m is AVAILABLE" in front.log, LIMIT)
    assert front.closed()
    behind.states = {3: AVAILABLE}
    front.wait_ready()
    with front.channel() as channel:
        assert health(channel) == STATES.SERVING


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_it_waits_ends_it(behind: Recorder, start: Start, number: signal.Signals) -> None:
    behind.states = {3: LOADING}
    behind.start()
    front = start(f"--upstream={behind.address}")
    wait_until("it waits", lambda: "no version of model m is AVAILABLE" in front.log)
    front.process.send_signal(number)
    assert front.wait() == 0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--upstream=127.0.0.1:1", "--model_base_path=/m"), "--model_base_path cannot be given"),
        (("--upstream_rest=127.0.0.1:1", "--model_base_path=/m"), "--upstream_rest needs --upstream"),
        (("--upstream=nowhere",), "--upstream cannot be 'nowhere'"),
    ],
)
def test_flags_that_contradict_each_other_end_the_start(
    start: Start, flags: tuple[str, ...], words: str
) -> None:
    front = start(*flags)
    assert front.wait() == 255
    assert words in front.log.splitlines()[-1]


# The server behind goes, and comes back.


def test_the_server_behind_goes_and_comes_back(behind: Recorder, start: Start) -> None:
    behind.start()
    front = start(f"--upstream={behind.address}").wait_ready()
    words = f"The server behind this front, {behind.address}, does not answer: "
    with front.channel() as channel:
        call = channel.unary_unary(rpc.GET_MODEL_STATUS.path)
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=LIMIT)
        assert next(watch).status == STATES.SERVING
        behind.stop()
        assert next(watch).status == STATES.NOT_SERVING
        code, text = refused(lambda: call(b"", timeout=LIMIT))
        assert (code, text[: len(words)]) == (UNAVAILABLE, words)
        reply = front.get("/v1/models/m/metadata")
        assert reply.status == 503
        assert json.loads(reply.data)["error"].startswith(words)
        reply = front.post("/score", b"abc")
        assert reply.status == 503
        assert words in json.loads(reply.data)["error"]
        assert front.get("/healthz").status == 200
        behind.start()
        assert next(watch).status == STATES.SERVING
        assert front.get("/v1/models/m/metadata").status == 200
        assert json.loads(front.post("/score", b"abcd").data) == [2.0]
        watch.cancel()


def test_a_model_that_goes_is_not_serving(behind: Recorder, start: Start) -> None:
    behind.start()
    front = start(f"--upstream={behind.address}").wait_ready()
    with front.channel() as channel:
        behind.states = {3: LOADING}
        wait_until("health says so", lambda: health(channel) == STATES.NOT_SERVING, LIMIT)
        behind.states = {4: AVAILABLE}
        wait_until("health says so", lambda: health(channel) == STATES.SERVING, LIMIT)


def test_a_server_that_is_killed_amid_a_call_is_named(tmp_path: Path) -> None:
    write_version(tmp_path / "m", 1, run_seconds=60)
    own = ("--model_name=m", f"--model_base_path={tmp_path / 'm'}")
    with (
        running(Server(FAKE, tmp_path / "behind", *own)) as server,
        running(front_of(server, tmp_path / "front", "--model_name=m")) as front,
        front.wait_ready().channel() as channel,
    ):
        future = rpc.multicallable(channel, rpc.PREDICT).future(request(1), timeout=LIMIT)
        wait_until("it is in progress", lambda: in_flight(server) == 1, LIMIT)
        server.process.kill()
        code, text = refused(lambda: future.result(LIMIT))
    assert code is UNAVAILABLE
    assert f"127.0.0.1:{server.grpc_port}, does not answer" in text


# End.


def test_requests_in_progress_end_well_after_sigterm(tmp_path: Path) -> None:
    with (
        fake_pair(tmp_path, "--max_connection_age_seconds=3", behavior={"run_seconds": 1.5}) as front,
        front.channel() as channel,
        ThreadPoolExecutor(2) as pool,
    ):
        call = rpc.multicallable(channel, rpc.PREDICT)
        futures = [call.future(request(1), timeout=LIMIT) for _ in range(2)]
        body = b'{"instances":[1.0]}'
        replies = [pool.submit(front.post, "/v1/models/m:predict", body) for _ in range(2)]
        wait_until("all are in progress", lambda: in_flight(front) == 4, LIMIT)
        front.terminate()
        wait_until("the ports are closed", front.closed, LIMIT)
        assert [list(future.result(LIMIT).outputs["y"].float_val) for future in futures] == [[1.0], [1.0]]
        for reply in replies:
            assert json.loads(reply.result(LIMIT).data) == {"predictions": [1.0]}
            assert reply.result(0).headers["Connection"] == "close"
        assert front.wait() == 0
        assert "drained" in front.log.splitlines()[-1]


def test_a_rolling_update_of_fronts_under_load_loses_nothing(tmp_path: Path) -> None:
    """Two fronts share a port, as two pods share a Service; the first one goes. The channels are held."""
    write_version(tmp_path / "m", 1)
    own = ("--model_name=m", f"--model_base_path={tmp_path / 'm'}")
    flags = (
        "--model_name=m",
        "--grpc_channel_arguments=grpc.so_reuseport=1",
        "--max_connection_age_seconds=1",
    )
    with (
        running(Server(FAKE, tmp_path / "behind", *own)) as server,
        running(front_of(server, tmp_path / "first", *flags)) as first,
        ExitStack() as stack,
        load_on(first.wait_ready(), http=False) as load,
    ):
        load.reaches(50)
        # It outlives the load.
        second = stack.enter_context(
            running(front_of(server, tmp_path / "second", *flags, grpc_port=first.grpc_port))
        )
        wait_until("the second serves", lambda: "ready grpc_port" in second.log)
        first.terminate()
        assert first.wait() == 0
        load.reaches(100)
    assert load.failures == []


def test_http_requests_under_load_are_answered_or_never_taken(tmp_path: Path) -> None:
    with fake_pair(tmp_path) as front, load_on(front) as load:
        load.reaches(50)
        load.grpc_stop.set()
        front.terminate()
        assert front.wait() == 0
        assert load.refused.wait(LIMIT)
    assert load.failures == []
    assert set(load.answers) == {1}


def test_connections_that_grow_old_on_both_sides_lose_nothing(tmp_path: Path) -> None:
    """The server behind asks the front to connect anew, as the front asks its clients."""
    write_version(tmp_path / "m", 1)
    own = ("--model_name=m", f"--model_base_path={tmp_path / 'm'}", "--max_connection_age_seconds=0.3")
    flags = ("--model_name=m", "--max_connection_age_seconds=0.5")
    with (
        running(Server(FAKE, tmp_path / "behind", *own)) as server,
        running(front_of(server, tmp_path / "front", *flags)) as front,
        load_on(front.wait_ready()) as load,
    ):
        load.reaches(400)
    assert load.failures == []


@pytest.mark.timeout(1200)  # all 100,000 requests take four minutes on an idle machine
def test_large_requests_survive_that_the_server_behind_asks_for_new_connections(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Connections end while requests are half sent: each has time for some of them."""
    write_version(tmp_path / "m", 1)
    own = ("--model_name=m", f"--model_base_path={tmp_path / 'm'}", "--max_connection_age_seconds=0.1")
    flags = ("--model_name=m", "--max_connection_age_seconds=0")
    large = request(*[1.0] * LARGE)
    requests = amount(1000, 100_000)
    note(record_property, requests, 100_000, "requests")
    with (
        running(Server(FAKE, tmp_path / "behind", *own)) as server,
        running(front_of(server, tmp_path / "front", *flags)) as front,
        front.wait_ready().channel() as channel,
        ThreadPoolExecutor(4) as pool,
    ):
        call = rpc.multicallable(channel, rpc.PREDICT)

        def answered(_: int) -> bool:
            return len(call(large, timeout=LIMIT).outputs["y"].float_val) == LARGE

        assert all(pool.map(answered, range(requests)))
