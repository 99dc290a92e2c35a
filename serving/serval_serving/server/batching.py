"""Runs requests together: rows of several requests become one batch for the engine.

Only requests of one version, signature and set of outputs go together, and only where the types and all
dimensions but the first are equal: no one's numbers are padded to fit another's. Threads take the batches in
the order in which they were begun. While all of them are busy, requests gather by themselves; a time to wait
for more is only added where the parameters say so, and never more than half of a request's time.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import grpc
import numpy as np

from serval_serving.engines.base import TIMED_OUT, Signature
from serval_serving.models.handle import RefCount, ServableHandle
from serval_serving.server.batch_settings import PER_MODEL_FILE, BatchSettings, read_settings
from serval_serving.server.flags import FlagError
from serval_serving.server.metrics import Metrics
from serval_serving.server.request_timing import RequestTiming
from serval_serving.wire.status import StatusError, invalid

TOO_LARGE = "Task size {size} is larger than maximum input batch size {limit}"
QUEUE_FULL = (
    "The batch scheduling queue to which this task was submitted is full; "
    "currently {count} batches enqueued and max_enqueued_batches is {limit}"
)
NO_DIMENSION = "Batching Run() input tensors must have at least one dimension"
UNEQUAL = "Batching Run() input tensors must have equal 0th-dimension size"
BAD_OUTPUT = (
    "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the input "
    "tensors"
)

_OF_ONE = frozenset(
    {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL}
)
"""What may be the fault of one request of a batch: its values, or its size."""

Outputs = list[np.ndarray]
Run = Callable[[ServableHandle, Signature, Mapping[str, np.ndarray], Sequence[str], "float | None"], Outputs]
"""Runs a model: handle, signature, inputs, outputs, seconds."""

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Task:
    """One request, or a piece of it."""

    inputs: Mapping[str, np.ndarray]
    size: int
    until: float | None
    since: float
    began: float = 0.0
    ended: float = 0.0
    """When the batch that gave it its rows was run."""
    done: threading.Event = field(default_factory=threading.Event)
    left: bool = False
    outputs: Outputs = field(default_factory=list)
    error: Exception | None = None

    def end(self, outputs: Outputs | None = None, error: Exception | None = None) -> None:
        """Give the request its answer, unless it has one."""
        if self.done.is_set():
            return
        self.outputs, self.error = outputs or [], error
        self.done.set()


@dataclass(slots=True, eq=False)
class _Batch:
    """Requests that run together."""

    key: Hashable
    handle: ServableHandle
    signature: Signature
    aliases: Sequence[str]
    due: float
    """When it is run though it is not full."""
    tasks: list[_Task] = field(default_factory=list)
    size: int = 0

    def add(self, task: _Task) -> None:
        """Take a task in."""
        self.tasks.append(task)
        self.size += task.size
        if task.until is not None:
            self.due = min(self.due, (task.since + task.until) / 2)


class BatchScheduler:
    """Batches the requests of all versions that have the same parameters.

    Parameters
    ----------
    settings:
        The parameters.
    run:
        Runs a batch.
    metrics:
        Where to count.
    clock:
        Monotonic seconds, as deadlines have them.
    """

    def __init__(
        self,
        settings: BatchSettings,
        run: Run,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._run = run
        self._metrics = metrics
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting: deque[_Batch] = deque()
        self._threads: list[threading.Thread] = []
        self._stopped = False

    def stop(self) -> None:
        """End the threads once nothing waits any more."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def run(
        self,
        handle: ServableHandle,
        signature: Signature,
        inputs: Mapping[str, np.ndarray],
        aliases: Sequence[str],
        until: float | None,
        timing: RequestTiming | None = None,
    ) -> Outputs:
        """Run a request within a batch; the outputs come in the order of `aliases`.

        `until` is the moment when no one waits any more; None for never. `timing` gets the times of the piece
        that was done last.

        Raises
        ------
        StatusError
            INVALID_ARGUMENT: the request cannot be batched or is too large; UNAVAILABLE: the queue is full;
            DEADLINE_EXCEEDED, or what the engine says.
        """
        size = _rows(inputs)
        if size > self._settings.max_batch_size:
            raise invalid(TOO_LARGE.format(size=size, limit=self._settings.max_batch_size))
        tasks = [_Task(piece, rows, until, self._clock()) for piece, rows in self._pieces(inputs, size)]
        self._submit(handle, signature, aliases, tasks)
        results = [self._result(task) for task in tasks]
        if timing is not None:
            last = max(tasks, key=lambda task: task.ended)
            timing.add(last.began - last.since, last.ended - last.began)
        return (
            results[0]
            if len(results) == 1
            else [np.concatenate(parts) for parts in zip(*results, strict=True)]
        )

    def _pieces(
        self, inputs: Mapping[str, np.ndarray], size: int
    ) -> list[tuple[Mapping[str, np.ndarray], int]]:
        """Cut a request that is larger than a batch."""
        step = self._settings.max_execution_size
        if size <= step:
            return [(inputs, size)]
        return [
            ({alias: array[start : start + step] for alias, array in inputs.items()}, min(step, size - start))
            for start in range(0, size, step)
        ]

    def _submit(
        self, handle: ServableHandle, signature: Signature, aliases: Sequence[str], tasks: Sequence[_Task]
    ) -> None:
        """Put tasks into batches that have room, or into new ones."""
        key = _key(handle, signature, tasks[0].inputs, aliases)
        with self._changed:
            mine = [batch for batch in self._waiting if batch.key == key]
            limit = self._settings.max_enqueued_batches
            # The pieces of a cut request have a batch each.
            needed = 0 if len(tasks) == 1 and self._fits(mine, tasks[0]) else len(tasks)
            if len(mine) + needed > limit:
                message = QUEUE_FULL.format(count=len(mine), limit=limit)
                raise StatusError(grpc.StatusCode.UNAVAILABLE, message)
            for task in tasks:
                if not self._fits(mine, task):
                    due = task.since + self._settings.timeout_seconds
                    mine.append(_Batch(key, handle, signature, aliases, due))
                    self._waiting.append(mine[-1])
                    handle.references.__enter__()
                mine[-1].add(task)
            self._metrics.queue_length.add(len(tasks))
            if len(self._threads) < self._settings.threads:
                self._start_thread()
            self._changed.notify()

    def _fits(self, mine: Sequence[_Batch], task: _Task) -> bool:
        """Whether the last batch has room for a task."""
        return bool(mine) and mine[-1].size + task.size <= self._settings.max_execution_size

    def _start_thread(self) -> None:
        """Start one more thread; there are none before there is work."""
        name = f"{self._settings.pool_name}-{len(self._threads)}"
        thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _result(self, task: _Task) -> Outputs:
        """Wait for a task's answer."""
        left = None if task.until is None else max(0.0, task.until - self._clock())
        if not task.done.wait(left):
            task.left = True
            raise StatusError(grpc.StatusCode.DEADLINE_EXCEEDED, TIMED_OUT)
        if task.error is not None:
            raise task.error
        return task.outputs

    def _work(self) -> None:
        """Run one batch after the other."""
        while (batch := self._take()) is not None:
            try:
                self._execute(batch)
            except Exception as error:  # noqa: BLE001  the thread must live on; callers get the error
                _log.exception("a batch failed unexpectedly: model=%s", batch.handle.name)
                for task in batch.tasks:
                    task.end(error=error)
            finally:
                batch.handle.references.__exit__()

    def _take(self) -> _Batch | None:
        """Wait for a batch that is full or has waited long enough, the oldest first; None for the end."""
        with self._changed:
            while True:
                now = self._clock()
                pause: float | None = None
                for batch in self._waiting:
                    left = batch.due - now
                    if batch.size >= self._settings.max_execution_size or left <= 0:
                        self._waiting.remove(batch)
                        self._metrics.queue_length.add(-len(batch.tasks))
                        return batch
                    pause = left if pause is None else min(pause, left)
                if self._stopped and not self._waiting:
                    return None
                self._changed.wait(pause)

    def _execute(self, batch: _Batch) -> None:
        """Run what is still wanted of a batch."""
        now = self._clock()
        tasks = []
        for task in batch.tasks:
            self._metrics.queuing_latency.observe((now - task.since) * 1e6, self._settings.pool_name)
            if task.until is not None and task.until <= now:
                task.end(error=StatusError(grpc.StatusCode.DEADLINE_EXCEEDED, TIMED_OUT))
            elif not task.left:
                tasks.append(task)
        if not tasks:
            return
        try:
            self._run_together(batch, tasks, now)
        except StatusError as error:
            # Some models take one row alone, whatever they declare.
            if error.code not in _OF_ONE and error.message != BAD_OUTPUT:
                for task in tasks:
                    task.end(error=error)
                return
            self._run_apart(batch, tasks, error)
        except Exception as error:  # noqa: BLE001  callers get the error
            _log.exception("a batch failed unexpectedly: model=%s", batch.handle.name)
            self._run_apart(batch, tasks, error)

    def _run_apart(self, batch: _Batch, tasks: Sequence[_Task], error: Exception) -> None:
        """Run the tasks of a batch that failed one by one: the fault of one must not hurt the others."""
        if len(tasks) == 1:
            tasks[0].end(error=error)
            return
        for task in tasks:
            now = self._clock()
            if task.until is not None and task.until <= now:
                task.end(error=StatusError(grpc.StatusCode.DEADLINE_EXCEEDED, TIMED_OUT))
                continue
            try:
                self._run_together(batch, [task], now)
            except Exception as own:  # noqa: BLE001  its caller gets the error
                task.end(error=own)

    def _run_together(self, batch: _Batch, tasks: Sequence[_Task], now: float) -> None:
        """Run tasks as one batch, and give each its rows."""
        size = sum(task.size for task in tasks)
        inputs = _joined(tasks, self._settings.padded(size) - size if size else 0)
        untils = [task.until for task in tasks if task.until is not None]
        # The batch may run as long as anybody waits for it.
        seconds = max(untils) - now if len(untils) == len(tasks) else None
        self._metrics.batch_size.observe(size, batch.handle.name)
        began = self._clock()
        outputs = self._run(batch.handle, batch.signature, inputs, batch.aliases, seconds)
        ended = self._clock()
        padded = len(next(iter(inputs.values())))
        if any(output.ndim == 0 or len(output) != padded for output in outputs):
            raise StatusError(grpc.StatusCode.FAILED_PRECONDITION, BAD_OUTPUT)
        start = 0
        for task in tasks:
            task.began, task.ended = began, ended
            task.end([output[start : start + task.size] for output in outputs])
            start += task.size


class Batching:
    """The schedulers: one for all models, and one for each version with parameters of its own.

    Parameters
    ----------
    settings:
        The parameters of those that have none.
    run, metrics:
        As `BatchScheduler`.
    per_model:
        Whether versions may have their own.
    cpus:
        Threads where a version's parameters name no number.
    """

    def __init__(
        self, settings: BatchSettings, run: Run, metrics: Metrics, *, per_model: bool = False, cpus: int = 1
    ) -> None:
        self._run = run
        self._metrics = metrics
        self._common = BatchScheduler(settings, run, metrics)
        self._per_model = per_model
        self._cpus = cpus
        self._own: weakref.WeakKeyDictionary[RefCount, BatchScheduler] = weakref.WeakKeyDictionary()

    def prepare(self, handle: ServableHandle) -> None:
        """Read the parameters of a version that was just loaded, if it has its own.

        Raises
        ------
        StatusError
            INVALID_ARGUMENT: they cannot be used.
        """
        file = handle.path / PER_MODEL_FILE
        if not (self._per_model and file.is_file()):
            return
        try:
            settings = read_settings(file, self._cpus)
        except FlagError as error:
            raise invalid(f"{file}: {error}") from error
        scheduler = BatchScheduler(settings, self._run, self._metrics)
        self._own[handle.references] = scheduler
        # No one can hold the version any more then.
        weakref.finalize(handle.references, scheduler.stop)

    def scheduler(self, handle: ServableHandle) -> BatchScheduler:
        """Find the scheduler of a version."""
        return self._own.get(handle.references, self._common)


def _rows(inputs: Mapping[str, np.ndarray]) -> int:
    """Count the rows of a request."""
    if any(array.ndim == 0 for array in inputs.values()):
        raise invalid(NO_DIMENSION)
    sizes = {len(array) for array in inputs.values()}
    if len(sizes) != 1:
        raise invalid(UNEQUAL)
    return sizes.pop()


def _key(
    handle: ServableHandle, signature: Signature, inputs: Mapping[str, np.ndarray], aliases: Sequence[str]
) -> Hashable:
    """Say what must be equal of requests that go together."""
    shapes = tuple((alias, inputs[alias].dtype, inputs[alias].shape[1:]) for alias in sorted(inputs))
    return (id(handle.model), signature.name, tuple(aliases), shapes)


def _joined(tasks: Sequence[_Task], padding: int) -> Mapping[str, np.ndarray]:
    """Put the rows of all tasks one below the other, and the first row so often below them."""
    if len(tasks) == 1 and not padding:
        return tasks[0].inputs
    joined = {}
    for alias in tasks[0].inputs:
        parts = [task.inputs[alias] for task in tasks]
        if padding:
            first = next(part for part in parts if len(part))[:1]
            parts.append(np.repeat(first, padding, axis=0))
        joined[alias] = np.concatenate(parts)
    return joined
