"""Sampling: writes a small part of the requests and replies to a folder, beside the requests' way.

A thread that has a request decides in about a microsecond, and at most puts references into a queue. Another
thread writes them down. What exceeds a limit is dropped and counted.
"""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from collections.abc import Callable
from typing import Final

from serval_serving.server.access import POD
from serval_serving.server.flags import FlagError
from serval_serving.server.inference import Run
from serval_serving.server.metrics import RequestMetrics
from serval_serving.server.sample_files import SampleFiles
from serval_serving.server.samples import LOGS, Sample, of_call, of_run
from serval_serving.server.settings import Settings
from serval_serving.wire.tfrecord import record

WRITTEN: Final = "written"
DROPPED: Final = "dropped"
FAILED: Final = "failed"
"""What became of a sample: values of the metric's label."""

MAX_SAMPLE_BYTES: Final = 4 << 20
"""A larger request with its reply is dropped."""
BYTES_PER_SECOND: Final = 4 << 20
"""Writing takes about 15 ms of CPU time per MB, mostly for checksums."""
MAX_PENDING_BYTES: Final = 16 << 20
"""What may wait for the thread that writes. It keeps the arrays of its requests in memory."""

_MOST_PENDING: Final = 256
_STOP_SECONDS: Final = 2.0
_SAY_SECONDS: Final = 60.0
_log = logging.getLogger(__name__)


class TokenBucket:
    """Limits a rate.

    Parameters
    ----------
    per_second:
        The limit. As many may come at once after a second without any.
    clock:
        Monotonic seconds.
    """

    def __init__(self, per_second: float, clock: Callable[[], float]) -> None:
        self._per_second = self._tokens = float(per_second)
        self._clock = clock
        self._at = clock()
        self._lock = threading.Lock()

    def take(self, amount: float = 1.0) -> bool:
        """Take so many, or none if there are fewer; the answer is whether they were taken."""
        with self._lock:
            now = self._clock()
            self._tokens = min(self._per_second, self._tokens + (now - self._at) * self._per_second)
            self._at = now
            if amount > self._tokens:
                return False
            self._tokens -= amount
            return True


def sampler_of(settings: Settings, metrics: RequestMetrics) -> Sampler | None:
    """Make what samples, if the flags ask for it.

    Raises
    ------
    FlagError
        The folder cannot be used.
    """
    if settings.sample_folder is None:
        return None
    try:
        files = SampleFiles(settings.sample_folder, POD, settings.sample_max_bytes)
    except OSError as error:
        raise FlagError(f"--sample_folder cannot be used: {error}") from error
    return Sampler(files, settings.sample_rate, settings.sample_max_per_second, metrics)


class Sampler:
    """Chooses requests and writes them.

    Parameters
    ----------
    files:
        Where to write.
    rate:
        The part of the requests that is chosen, from 0 to 1.
    per_second:
        Most samples per second.
    metrics:
        Where to count.
    clock:
        Monotonic seconds.
    """

    def __init__(
        self,
        files: SampleFiles,
        rate: float,
        per_second: float,
        metrics: RequestMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._files = files
        self._rate = rate
        self._samples = TokenBucket(per_second, clock)
        self._bytes = TokenBucket(BYTES_PER_SECOND, clock)
        self._metrics = metrics
        self._clock = clock
        self._queue: queue.Queue[Sample | None] = queue.Queue(_MOST_PENDING)
        self._pending = 0
        self._lock = threading.Lock()
        self._said = -_SAY_SECONDS
        self._thread = threading.Thread(target=self._write_all, name="samples", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, for at most two seconds."""
        try:
            self._queue.put(None, timeout=_STOP_SECONDS)
        except queue.Full:
            return
        self._thread.join(_STOP_SECONDS)

    def take_run(self, run: Run) -> None:
        """Take a run of a model, if it is chosen."""
        if self.chooses():
            self.offer(of_run(run, MAX_SAMPLE_BYTES))

    def take_call(self, path: str, model: str, version: int, request: bytes, reply: bytes) -> None:
        """Take a call that another server answered, if it is a prediction and is chosen."""
        if path in LOGS and self.chooses():
            self.offer(of_call(path, model, version, request, reply))

    def chooses(self) -> bool:
        """Whether to make a sample of this request."""
        return random.random() < self._rate and self._samples.take()  # noqa: S311  no secret

    def offer(self, sample: Sample) -> None:
        """Take a sample, if there is room for it. This never waits."""
        with self._lock:
            fits = sample.size <= MAX_SAMPLE_BYTES and self._pending + sample.size <= MAX_PENDING_BYTES
            if fits and self._bytes.take(sample.size):
                try:
                    self._queue.put_nowait(sample)
                except queue.Full:
                    pass
                else:
                    self._pending += sample.size
                    return
        self._metrics.samples.add(DROPPED)

    def _write_all(self) -> None:
        """Write until stopped."""
        while (sample := self._queue.get()) is not None:
            self._metrics.samples.add(self._written(sample))
            with self._lock:
                self._pending -= sample.size
            # While this waits for the next one it keeps none in memory.
            del sample

    def _written(self, sample: Sample) -> str:
        """Write a sample, and say what became of it."""
        try:
            added = self._files.add(sample.model, sample.version, record(sample.write()))
        except Exception as error:  # noqa: BLE001  sampling must not end; a text may quote what was sent
            if self._clock() - self._said >= _SAY_SECONDS:
                self._said = self._clock()
                why = error.strerror if isinstance(error, OSError) else type(error).__name__
                _log.warning("a sample cannot be written: %s", why)
            return FAILED
        return WRITTEN if added else DROPPED
