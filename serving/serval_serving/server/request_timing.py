"""Where the time of a request went, for callers who ask: see `serval_serving.wire.timing`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from serval_serving.wire.timing import ENGINE, QUEUE, TOTAL, write_times

_here = threading.local()


@dataclass(slots=True)
class RequestTiming:
    """Seconds of one request, summed up where it runs the model several times.

    Attributes
    ----------
    queue:
        Waiting: for a thread of the server, for a batch, for the engine.
    engine:
        Inside the engine.
    """

    queue: float = 0.0
    engine: float = 0.0

    def add(self, queue: float, engine: float = 0.0) -> None:
        """Add the times of a step, in seconds."""
        self.queue += queue
        self.engine += engine

    def header(self, total: float) -> str:
        """Write the value of the reply's header; ``total`` is the seconds of the whole request.

        It has no entry for the engine if none ran, as in a proxy.
        """
        engine = {ENGINE: self.engine} if self.engine else {}
        return write_times({TOTAL: total, QUEUE: self.queue, **engine})


class WorkerPool(ThreadPoolExecutor):
    """Threads that know how long their work waited for one of them; see `waited`.

    Parameters
    ----------
    threads:
        How many.
    name:
        What their names begin with.

    Attributes
    ----------
    ended:
        When a work ended last, in monotonic seconds.
    """

    def __init__(self, threads: int, name: str) -> None:
        super().__init__(threads, thread_name_prefix=name)
        self.ended = time.monotonic()
        self._since: dict[object, float] = {}

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run a function in one of the threads."""
        work = object()
        self._since[work] = time.monotonic()
        return super().submit(self._run, work, fn, *args, **kwargs)

    def longest_wait(self, now: float) -> float:
        """Seconds for which some work has waited for a thread; 0 if none waits."""
        return max((now - since for since in list(self._since.values())), default=0.0)

    def _run(self, work: object, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Note how long work waited, and do it."""
        _here.waited = time.monotonic() - self._since.pop(work)
        try:
            return fn(*args, **kwargs)
        finally:
            self.ended = time.monotonic()


def waited() -> float:
    """Say how many seconds the work of this thread had waited for it; 0 outside of a `WorkerPool`."""
    seconds: float = getattr(_here, "waited", 0.0)
    return seconds
