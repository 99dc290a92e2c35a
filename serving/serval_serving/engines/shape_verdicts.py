"""Which shapes of inputs a model takes, where the signature does not say: verdicts, and what they may cost.

TensorFlow Serving compares no shape with the signature, so clients send shapes that differ from it and
expect an answer. Some kernels of TensorFlow end the process on a tensor of the wrong rank. What decides
between the two is the shape inference of TensorFlow on the graph; here its verdicts are remembered, and the
CPU time that it may take is limited. The module knows nothing of TensorFlow.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

import grpc

from serval_serving.wire.status import StatusError, cut_message, invalid

MAX_VERDICTS: Final = 1024
"""Verdicts remembered for each model; the one that was not used for longest is forgotten first."""

BURST_SECONDS: Final = 2.0
"""CPU seconds that verdicts may take at once, of all models together."""

CPU_SHARE: Final = 0.1
"""CPU seconds that verdicts may take in each second after that."""

MAX_WAIT_SECONDS: Final = 1.0
"""The longest time that a request waits for verdicts on other requests."""

TOO_MANY_SHAPES: Final = (
    "Too many requests have new shapes that the signature does not describe. Send shapes of the signature, "
    "or try again later."
)


class Feed(NamedTuple):
    """A tensor that a run gives a value.

    Attributes
    ----------
    name:
        The tensor's name in the graph, such as `images:0`.
    dtype:
        A value of `serval_serving.wire.dtypes.DataType`.
    shape:
        Its dimensions; None for one of any size.
    """

    name: str
    dtype: int
    shape: tuple[int | None, ...]


class Question(NamedTuple):
    """Whether a graph can compute the tensors `fetches` from `feeds`."""

    feeds: tuple[Feed, ...]
    fetches: tuple[str, ...]


class InferenceBudget:
    """Limits the CPU time of shape inference: one verdict at a time, and a share of one CPU.

    Parameters
    ----------
    burst_seconds, share:
        CPU seconds that may be used at once, and those that come back in each second.
    clock:
        Monotonic seconds.
    cpu_clock:
        CPU seconds of the calling thread.
    """

    def __init__(
        self,
        burst_seconds: float = BURST_SECONDS,
        share: float = CPU_SHARE,
        clock: Callable[[], float] = time.monotonic,
        cpu_clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self._burst = burst_seconds
        self._share = share
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._turn = threading.Lock()
        self._left = burst_seconds
        self._at = clock()

    @contextmanager
    def turn(self, seconds: float | None) -> Iterator[None]:
        """Wait until no other thread asks for a verdict, for at most `seconds`.

        Raises
        ------
        StatusError
            RESOURCE_EXHAUSTED: others took all that time.
        """
        limit = MAX_WAIT_SECONDS if seconds is None else min(MAX_WAIT_SECONDS, max(0.0, seconds))
        if not self._turn.acquire(timeout=limit):
            raise _too_many()
        try:
            yield
        finally:
            self._turn.release()

    @contextmanager
    def spend(self) -> Iterator[None]:
        """Take the CPU time of what stands inside from the budget. Call it within a turn.

        Raises
        ------
        StatusError
            RESOURCE_EXHAUSTED: the budget is used up.
        """
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) * self._share)
        self._at = now
        if self._left <= 0:
            raise _too_many()
        started = self._cpu_clock()
        try:
            yield
        finally:
            self._left -= self._cpu_clock() - started


class ShapeVerdicts:
    """The verdicts on the shapes that one model was sent. Many threads may ask at once.

    Parameters
    ----------
    infer:
        Returns why a graph refuses the shapes of a question; empty if it takes them. It is never called by
        two threads at once.
    budget:
        Limits the time that it takes.
    size:
        Verdicts to remember.
    """

    def __init__(
        self, infer: Callable[[Question], str], budget: InferenceBudget, size: int = MAX_VERDICTS
    ) -> None:
        self._infer = infer
        self._budget = budget
        self._size = size
        self._lock = threading.Lock()
        self._deciding: dict[Question, threading.Event] = {}
        self._known: OrderedDict[Question, str] = OrderedDict()

    def check(self, question: Question, seconds: float | None = None) -> None:
        """Refuse shapes that the graph does not take; `seconds` is how long the request may wait.

        Raises
        ------
        StatusError
            INVALID_ARGUMENT: the graph does not take them. RESOURCE_EXHAUSTED: too many new shapes were
            asked about of late.
        """
        refusal = self._find(question)
        if refusal is None:
            refusal = self._decide(question, seconds)
        if refusal:
            raise invalid(refusal)

    def _decide(self, question: Question, seconds: float | None) -> str:
        """Infer a verdict, or wait for that of the thread that asks the same already."""
        until = None if seconds is None else time.monotonic() + seconds
        decided = threading.Event()
        with self._lock:
            first = self._deciding.setdefault(question, decided)
        if first is decided:
            try:
                return self._inferred(question, seconds)
            finally:
                with self._lock:
                    del self._deciding[question]
                decided.set()
        first.wait(seconds)
        refusal = self._find(question)
        if refusal is not None:
            return refusal
        return self._inferred(question, None if until is None else until - time.monotonic())

    def _inferred(self, question: Question, seconds: float | None) -> str:
        """Infer a verdict once no other question is asked, unless another thread does so first."""
        with self._budget.turn(seconds):
            refusal = self._find(question)
            if refusal is None:
                with self._budget.spend():
                    refusal = cut_message(self._infer(question))
                self._keep(question, refusal)
        return refusal

    def _find(self, question: Question) -> str | None:
        """Return a verdict that is known; None if it is not."""
        with self._lock:
            refusal = self._known.get(question)
            if refusal is not None:
                self._known.move_to_end(question)
        return refusal

    def _keep(self, question: Question, refusal: str) -> None:
        """Remember a verdict."""
        with self._lock:
            self._known[question] = refusal
            if len(self._known) > self._size:
                self._known.popitem(last=False)


def _too_many() -> StatusError:
    """Make the error for a request that gets no verdict."""
    return StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, TOO_MANY_SHAPES)
