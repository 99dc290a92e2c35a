"""Notices that gRPC is stuck, and then closes its port, so that liveness probes see it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serval_serving.server.request_timing import WorkerPool

STUCK_SECONDS: Final = 120.0
"""A call that waits so long for a thread, while no other call ends, will wait for ever."""
CHECK_SECONDS: Final = 15.0
"""Time between two health checks of our own, and the time that each has."""
FAILURES: Final = 4

_SILENT: Final = frozenset({grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE})
_log = logging.getLogger(__name__)


class GrpcWatch:
    """Looks at a gRPC server from outside and from inside.

    Parameters
    ----------
    pool:
        Its threads.
    answers:
        Makes a health check within so many seconds; whether there was an answer.
    close:
        Closes the port. It is called once.
    clock:
        Monotonic seconds.
    """

    def __init__(
        self,
        pool: WorkerPool,
        answers: Callable[[float], bool],
        close: Callable[[], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = pool
        self._answers = answers
        self._close = close
        self._clock = clock
        self._failures = 0
        self._stopped = threading.Event()
        self.stuck = False

    def start(self) -> None:
        """Look again and again in a thread, until `stop`."""
        threading.Thread(target=self._watch, name="grpc-watch", daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()

    def look(self) -> None:
        """Look once."""
        self._failures = 0 if self._answers(CHECK_SECONDS) else self._failures + 1
        now = self._clock()
        waits = self._pool.longest_wait(now)
        held = min(waits, now - self._pool.ended) > STUCK_SECONDS
        if self.stuck or self._stopped.is_set() or not (held or self._failures >= FAILURES):
            return
        self.stuck = True
        _log.error(
            "gRPC is stuck: a call has waited for a thread for %.0f s, %d health checks had no answer; its "
            "port is closed, so that this server is restarted",
            waits,
            self._failures,
        )
        self._close()

    def _watch(self) -> None:
        """Look until stopped."""
        while not self._stopped.wait(CHECK_SECONDS):
            self.look()


def health_check(channel: Any) -> Callable[[float], bool]:
    """Make what checks the health of a server; any answer is one, also that it is too busy."""
    check = health_pb2_grpc.HealthStub(channel).Check

    def answers(seconds: float) -> bool:
        try:
            check(health_pb2.HealthCheckRequest(), timeout=seconds, wait_for_ready=True)
        except grpc.RpcError as error:
            return error.code() not in _SILENT
        return True

    return answers
