"""Stops runs that nobody waits for any more, where an engine takes no limit of time itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_NEVER = float("inf")


class DeadlineWatch:
    """One thread that watches over all runs of an engine.

    A timer for each run would cost a thread for each run. This one is started by the first run with a limit,
    and woken early only by a run that ends sooner than all those before it.

    Parameters
    ----------
    clock:
        Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._runs: dict[int, tuple[float, Callable[[], None]]] = {}
        self._count = 0
        self._next_look = _NEVER
        self._thread: threading.Thread | None = None

    @contextmanager
    def limit(self, seconds: float | None, stop: Callable[[], None]) -> Iterator[None]:
        """Call `stop` if what stands inside is not done in so many seconds; None for no limit.

        `stop` is called in the thread that watches, and may come when the run has just ended.
        """
        if seconds is None:
            yield
            return
        number = self._add(self._clock() + seconds, stop)
        try:
            yield
        finally:
            with self._changed:
                self._runs.pop(number, None)

    def _add(self, end: float, stop: Callable[[], None]) -> int:
        """Note a run, and see to it that somebody looks when it should have ended."""
        with self._changed:
            self._count += 1
            self._runs[self._count] = (end, stop)
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="deadlines", daemon=True)
                self._thread.start()
            if end < self._next_look:
                self._next_look = end
                self._changed.notify()
            return self._count

    def _watch(self) -> None:
        """Stop what is late, and sleep until the next run is."""
        with self._changed:
            while True:
                now = self._clock()
                for number in [number for number, (end, _) in self._runs.items() if end <= now]:
                    self._runs.pop(number)[1]()
                self._next_look = min((end for end, _ in self._runs.values()), default=_NEVER)
                self._changed.wait(None if self._next_look == _NEVER else self._next_look - now)
