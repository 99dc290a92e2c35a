"""Start, change of versions and end of real server processes."""

from __future__ import annotations

import http.client
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import urllib3
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serval_serving.wire import messages, rpc
from serval_serving.wire.tensors import from_array
from unit.serving.server.fake_engine import write_version
from unit.serving.server.processes import REAL, Server, running, wait_until

LIMIT = 20.0
Start = Callable[..., Server]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path / "m"


def request(*values: float) -> messages.PredictRequest:
    made = messages.PredictRequest(model_spec=messages.ModelSpec(name="m"))
    made.inputs["x"].CopyFrom(from_array(np.array(values, dtype=np.float32)))
    return made


def state_of(server: Server) -> dict[str, str]:
    document = json.loads(server.get("/v1/models/m").data)
    return {status["version"]: status["state"] for status in document["model_version_status"]}


class Load:
    """Clients that call without a pause, and what became of their calls."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self.grpc_stop = threading.Event()
        self.refused = threading.Event()
        self.answers: list[Any] = []
        self.failures: list[str] = []
        self._lock = threading.Lock()

    def note(self, answer: Any) -> None:
        with self._lock:
            self.answers.append(answer)

    def fail(self, error: Exception) -> None:
        with self._lock:
            self.failures.append(f"{type(error).__name__}: {error}")

    def grpc_client(self, server: Server) -> None:
        """One channel, held all the time."""
        with server.channel() as channel:
            call = rpc.multicallable(channel, rpc.PREDICT)
            while not self.stopping.is_set() and not self.grpc_stop.is_set():
                try:
                    self.note(call(request(1), timeout=LIMIT).model_spec.version.value)
                except grpc.RpcError as error:
                    self.fail(error)

    def http_client(self, server: Server) -> None:
        """One pool with keep-alive."""
        pool = urllib3.HTTPConnectionPool("127.0.0.1", server.http_port, maxsize=1, retries=False)
        body = b'{"instances":[1.0]}'
        while not self.stopping.is_set():
            try:
                reply = pool.request("POST", "/v1/models/m:predict", body=body, timeout=LIMIT)
                self.note(json.loads(reply.data).get("predictions", [reply.data])[0])
            except urllib3.exceptions.NewConnectionError:
                # The server did not take the request: it has closed its port.
                self.refused.set()
                self.stopping.wait(0.05)
            except urllib3.exceptions.HTTPError as error:
                self.fail(error)
        pool.close()

    def reaches(self, more: int) -> None:
        """Wait for so many more answers."""
        target = len(self.answers) + more
        wait_until(f"{more} more answers", lambda: len(self.answers) >= target or bool(self.failures), LIMIT)


@contextmanager
def load_on(server: Server, *, http: bool = True, clients: int = 2) -> Iterator[Load]:
    load = Load()
    kinds = (load.grpc_client, load.http_client) if http else (load.grpc_client,)
    with ThreadPoolExecutor(2 * clients) as pool:
        try:
            futures = [pool.submit(client, server) for client in kinds for _ in range(clients)]
            yield load
        finally:
            load.stopping.set()
        for future in futures:
            future.result(LIMIT)


# Start.


def test_the_ports_open_only_after_a_version_is_loaded(start_fake: Start, base: Path) -> None:
    server = start_fake()
    wait_until("it looks for versions", lambda: "Waiting for one" in server.log)
    assert server.closed()
    write_version(base, 1, load_seconds=1.0)
    wait_until("it loads", lambda: "loading model=m version=1" in server.log)
    assert server.closed()
    server.wait_ready()
    assert "available model=m version=1" in server.log
    assert state_of(server) == {"1": "AVAILABLE"}


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("absent", "Not found: Could not find SavedModel .pb or .pbtxt at supplied export directory path: "),
        ("broken", "Invalid argument: Cannot parse file "),
    ],
)
def test_a_bad_model_ends_the_start_with_tensorflow_servings_words(
    models: Path, tmp_path: Path, model: str, words: str
) -> None:
    flags = ("--model_name=m", f"--model_base_path={models / model}")
    with running(Server(REAL, tmp_path / "log", *flags)) as server:
        assert server.wait(60) == 255
        last = server.log.splitlines()[-1]
    prefix = "Failed to start server. Error: Unknown: 1 servable(s) did not become available: "
    assert last.startswith(f"{prefix}{{{{name: m version: 1}} due to error: {words}")


def test_a_model_of_tensorflow_1_is_served(models: Path, tmp_path: Path) -> None:
    flags = ("--model_name=m", f"--model_base_path={models / 'tf1'}")
    with running(Server(REAL, tmp_path / "log", *flags)) as server:
        server.wait_ready()
        reply = server.post("/v1/models/m:predict", b'{"instances":[1.0, 2.0]}')
        assert json.loads(reply.data) == {"predictions": [3.5, 4.0]}


def test_a_bad_flag_ends_the_start(start_fake: Start) -> None:
    server = start_fake("--rest_api_timeout_in_ms=soon")
    assert server.wait() == 255
    last = server.log.splitlines()[-1]
    assert last == "Failed to start server. Error: --rest_api_timeout_in_ms cannot be 'soon'"


def test_a_port_in_use_ends_the_start(start_fake: Start, base: Path) -> None:
    write_version(base, 1)
    first = start_fake().wait_ready()
    for ports in ({"grpc_port": first.grpc_port}, {"http_port": first.http_port}):
        second = start_fake(**ports)
        assert second.wait() == 255
        assert second.log.splitlines()[-1].startswith("Failed to start server. Error: Unavailable: ")


def test_unknown_flags_print_the_usage_and_the_server_starts(start_fake: Start, base: Path) -> None:
    write_version(base, 1)
    server = start_fake("--frobnicate=1", "--enable_batching=true").wait_ready()
    assert "usage: serval-model-server" in server.log
    assert "unknown arguments: --frobnicate=1" in server.log
    assert server.log.count("--enable_batching") == 1


# Change.


def test_a_new_version_takes_over_without_a_lost_request(start_fake: Start, base: Path) -> None:
    write_version(base, 1)
    server = start_fake().wait_ready()
    with load_on(server) as load:
        load.reaches(50)
        write_version(base, 2, load_seconds=0.3)
        wait_until("version 2 serves", lambda: state_of(server) == {"2": "AVAILABLE", "1": "END"}, LIMIT)
        load.reaches(50)
        write_version(base, 3, fail="broken on purpose")
        wait_until("version 3 failed", lambda: state_of(server).get("3") == "END", LIMIT)
        load.reaches(50)
    assert load.failures == []
    # The gRPC clients note versions, the HTTP clients the factor of a version.
    assert set(load.answers) == {1, 2}
    status = json.loads(server.get("/v1/models/m/versions/3").data)["model_version_status"][0]
    assert status["status"] == {"error_code": "NOT_FOUND", "error_message": "broken on purpose"}
    assert server.get("/v1/models/m/metadata").status == 200
    assert server.get("/v1/models/m/versions/3/metadata").status == 404


# End.


def test_requests_in_progress_end_well_after_sigterm(start_fake: Start, base: Path) -> None:
    write_version(base, 1, run_seconds=1.5)
    server = start_fake("--engine_threads=8").wait_ready()
    with server.channel() as channel, ThreadPoolExecutor(4) as pool:
        call = rpc.multicallable(channel, rpc.PREDICT)
        futures = [call.future(request(1), timeout=LIMIT) for _ in range(2)]
        replies = [
            pool.submit(server.post, path, b'{"instances":[1.0]}')
            for path in ("/v1/models/m:predict", "/v1/models/m:predict")
        ]
        wait_until("all are in progress", lambda: "in_flight 4" in metrics(server), LIMIT)
        server.terminate()
        wait_until("the ports are closed", server.closed, LIMIT)
        assert server.process.poll() is None
        assert [list(future.result(LIMIT).outputs["y"].float_val) for future in futures] == [[1.0], [1.0]]
        for reply in replies:
            assert json.loads(reply.result(LIMIT).data) == {"predictions": [1.0]}
            assert reply.result(0).headers["Connection"] == "close"
    assert server.wait() == 0
    assert "drained" in server.log.splitlines()[-1]


def test_health_says_not_serving_while_it_drains(start_fake: Start, base: Path) -> None:
    write_version(base, 1, run_seconds=2.0)
    server = start_fake().wait_ready()
    with server.channel() as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=LIMIT)
        serving = health_pb2.HealthCheckResponse
        assert next(watch).status == serving.SERVING
        future = rpc.multicallable(channel, rpc.PREDICT).future(request(1), timeout=LIMIT)
        wait_until("it is in progress", lambda: "in_flight 1" in metrics(server), LIMIT)
        server.terminate()
        assert next(watch).status == serving.NOT_SERVING
        future.result(LIMIT)
        watch.cancel()
    assert server.wait() == 0


def test_a_drain_has_an_end(start_fake: Start, base: Path) -> None:
    write_version(base, 1, run_seconds=60)
    server = start_fake("--drain_seconds=0.5").wait_ready()
    with server.channel() as channel:
        future = rpc.multicallable(channel, rpc.PREDICT).future(request(1), timeout=LIMIT)
        wait_until("it is in progress", lambda: "in_flight 1" in metrics(server), LIMIT)
        started = time.monotonic()
        server.terminate()
        with pytest.raises(grpc.RpcError):
            future.result(LIMIT)
    assert server.wait() == 0
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_it_waits_for_a_model_ends_it(start_fake: Start, number: signal.Signals) -> None:
    server = start_fake()
    wait_until("it looks for versions", lambda: "Waiting for one" in server.log)
    server.process.send_signal(number)
    assert server.wait() == 0


def test_a_rolling_update_under_load_loses_no_grpc_call(start_fake: Start, base: Path) -> None:
    """Two servers share a port, as two pods share a Service; the first one goes. The channels are held."""
    write_version(base, 1)
    flags = ("--grpc_channel_arguments=grpc.so_reuseport=1", "--max_connection_age_seconds=1")
    first = start_fake(*flags).wait_ready()
    with load_on(first, http=False) as load:
        load.reaches(50)
        second = start_fake(*flags, grpc_port=first.grpc_port)
        wait_until("the second serves", lambda: "serving model=m" in second.log)
        first.terminate()
        assert first.wait() == 0
        load.reaches(100)
    assert load.failures == []
    assert "drained" in first.log


def test_http_requests_under_load_are_answered_or_never_taken(start_fake: Start, base: Path) -> None:
    write_version(base, 1)
    server = start_fake().wait_ready()
    with load_on(server) as load:
        load.reaches(50)
        load.grpc_stop.set()
        server.terminate()
        assert server.wait() == 0
        assert load.refused.wait(LIMIT)
    assert load.failures == []
    assert set(load.answers) == {1}


def test_a_connection_is_told_to_go_when_it_is_old(start_fake: Start, base: Path) -> None:
    write_version(base, 1)
    server = start_fake("--max_connection_age_seconds=0.5").wait_ready()
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=LIMIT)
    seen = []

    def closes() -> bool:
        connection.request("GET", "/v1/models/m")
        reply = connection.getresponse()
        reply.read()
        seen.append(reply.getheader("Connection"))
        return seen[-1] == "close"

    wait_until("the connection is closed", closes, LIMIT)
    connection.close()
    assert seen[0] is None
    with load_on(server) as load:
        end = time.monotonic() + 2
        wait_until("two seconds of load", lambda: time.monotonic() > end, LIMIT)
    assert load.failures == []


def test_too_many_requests_are_refused_at_once(start_fake: Start, base: Path) -> None:
    write_version(base, 1, run_seconds=1.0)
    server = start_fake("--max_concurrent_requests=1").wait_ready()
    with server.channel() as channel:
        call = rpc.multicallable(channel, rpc.PREDICT)
        first = call.future(request(1), timeout=LIMIT)
        wait_until("it is in progress", lambda: "in_flight 1" in metrics(server), LIMIT)
        with pytest.raises(grpc.RpcError) as caught:
            call(request(1), timeout=LIMIT)
        reply = server.post("/v1/models/m:predict", b'{"instances":[1.0]}')
        first.result(LIMIT)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert caught.value.details() == "Too many concurrent requests: the limit is 1."
    assert reply.status == 429


def metrics(server: Server) -> str:
    return server.get("/monitoring/prometheus/metrics").data.decode()
