"""A gRPC server that is stuck closes its port; one that is only busy does not."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serval_serving.server.grpc_calls import unary_handler
from serval_serving.server.grpc_service import GrpcOptions, GrpcServer
from serval_serving.server.grpc_watch import FAILURES, STUCK_SECONDS, GrpcWatch, health_check
from serval_serving.server.inference import Admission
from serval_serving.server.metrics import RequestMetrics
from serval_serving.server.pipeline import Pipeline
from serval_serving.server.request_timing import WorkerPool
from support.clock import FakeClock
from support.ports import free_port
from unit.serving.server.processes import wait_until

LIMIT = 20.0


class Watched:
    """A pool of one thread that is watched, on a clock that starts now."""

    def __init__(self) -> None:
        self.pool = WorkerPool(1, "test")
        self.clock = FakeClock(self.pool.ended)
        self.healthy = True
        self.closed = 0
        self.watch = GrpcWatch(self.pool, lambda _: self.healthy, self.close, self.clock)

    def close(self) -> None:
        self.closed += 1

    @contextmanager
    def busy(self) -> Iterator[None]:
        """One call has the thread, and another waits."""
        over, begun = threading.Event(), threading.Event()

        def hold() -> None:
            begun.set()
            over.wait(LIMIT)

        futures = [self.pool.submit(hold), self.pool.submit(over.wait, LIMIT)]
        assert begun.wait(LIMIT)
        yield
        over.set()
        for future in futures:
            future.result(LIMIT)


def test_a_call_that_waits_while_none_ends() -> None:
    watched = Watched()
    with watched.busy():
        watched.watch.look()
        assert not watched.watch.stuck
        watched.clock.now += STUCK_SECONDS + 5
        watched.watch.look()
        watched.watch.look()
    assert watched.watch.stuck
    assert watched.closed == 1


def test_a_busy_server_is_not_stuck() -> None:
    watched = Watched()
    with watched.busy():
        watched.clock.now += STUCK_SECONDS + 5
        watched.pool.ended = watched.clock.now - 1
        watched.watch.look()
    watched.clock.now += STUCK_SECONDS * 10
    watched.watch.look()
    assert not watched.watch.stuck, "nothing waits"


def test_health_checks_without_an_answer() -> None:
    watched = Watched()
    watched.healthy = False
    for _ in range(FAILURES - 1):
        watched.watch.look()
    watched.healthy = True
    watched.watch.look()
    watched.healthy = False
    for _ in range(FAILURES - 1):
        watched.watch.look()
    assert not watched.watch.stuck
    watched.watch.look()
    assert watched.watch.stuck


class Held(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Holds every call that no other service takes."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.over = threading.Event()
        self.count = threading.Semaphore(0)
        self._handler = unary_handler(pipeline, self._hold)

    def service(self, handler_call_details: Any) -> Any:
        return None if "health" in handler_call_details.method else self._handler

    def _hold(self, _receive: object, _context: Any) -> bytes:
        self.count.release()
        self.over.wait(LIMIT)
        return b""


def test_a_server_whose_threads_are_all_held() -> None:
    pipeline = Pipeline(Admission(RequestMetrics()))
    held = Held(pipeline)
    options = GrpcOptions(free_port(), threads=2, rooms=0, drain_seconds=0.0)
    server = GrpcServer([held], options, pipeline)
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{options.port}") as channel:
            call = channel.unary_unary("/any/Call")
            calls = [call.future(b"", timeout=LIMIT) for _ in range(3)]
            for _ in range(2):
                assert held.count.acquire(timeout=LIMIT)
            assert health_check(channel)(LIMIT), "they have threads of their own"
            check = health_pb2_grpc.HealthStub(channel).Check
            assert check(health_pb2.HealthCheckRequest(), timeout=LIMIT).status == 1
            watch, pool = server._watch, server._pool
            wait_until("the third waits", lambda: pool.longest_wait(pool.ended + 1e6) > 0, LIMIT)
            watch.look()
            assert server.alive
            watch._clock = lambda: pool.ended + STUCK_SECONDS * 2
            watch.look()
            assert not server.alive
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", options.port), timeout=5).close()
            held.over.set()
            for one in calls:
                with suppress(grpc.RpcError):
                    one.result(LIMIT)
    finally:
        held.over.set()
        server.drain()()


def test_nobody_answers() -> None:
    with grpc.insecure_channel(f"127.0.0.1:{free_port()}") as channel:
        assert not health_check(channel)(0.05)
