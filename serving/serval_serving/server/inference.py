"""What every entry point shares: finding a model, admitting a request, running it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import grpc
import numpy as np

from serval_serving.engines.base import Signature
from serval_serving.models.manager import Lease, ModelManager
from serval_serving.server.metrics import Metrics
from serval_serving.wire.status import StatusError, invalid

NO_SPEC = "Missing ModelSpec"
NO_NAME = "ModelSpec has no name specified."
TIMED_OUT = "Timed out waiting for notification"
TOO_MANY = "Too many concurrent requests: the limit is %d."

RUNTIME = "TF1"
"""The runtime label of TensorFlow Serving's metrics for models that run in a session."""


@dataclass(frozen=True, slots=True)
class Target:
    """Which model a request is for. `name` None: the request did not say."""

    name: str | None
    version: int | None = None
    label: str = ""
    signature: str = ""


@dataclass(frozen=True, slots=True)
class Deadline:
    """The moment, in the clock's seconds, at which nobody waits for the answer any more; None for never."""

    at: float | None = None

    def left(self, now: float) -> float | None:
        """Seconds left, which may be negative; None where there is no deadline."""
        return None if self.at is None else self.at - now


class Inference:
    """Runs predictions.

    Parameters
    ----------
    models:
        The models by name.
    metrics:
        Where to count.
    engine_threads:
        Predictions inside the engine at once. More than one per CPU only adds contention.
    max_concurrent:
        Predictions in progress at once, waiting ones included; 0 for no limit.
    clock:
        Monotonic seconds.
    """

    def __init__(
        self,
        models: Mapping[str, ModelManager],
        metrics: Metrics,
        engine_threads: int,
        max_concurrent: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._models = models
        self._metrics = metrics
        self._gate = threading.Semaphore(engine_threads)
        self._max_concurrent = max_concurrent
        self._clock = clock

    @property
    def metrics(self) -> Metrics:
        """Where requests are counted."""
        return self._metrics

    def now(self) -> float:
        """Read the clock."""
        return self._clock()

    def deadline(self, seconds: float | None) -> Deadline:
        """Make the deadline that lies so many seconds ahead; None for none."""
        return Deadline() if seconds is None else Deadline(self._clock() + seconds)

    def model(self, name: str) -> ModelManager | None:
        """Find a model; None where there is none of that name."""
        return self._models.get(name)

    def model_name(self, target: Target) -> str:
        """Name the model that a Predict call is for: the only one, where the request names none.

        TensorFlow Serving refuses such requests; the clients of Azure's accelerated models send no other.
        """
        if target.name:
            return target.name
        if len(self._models) == 1:
            return next(iter(self._models))
        raise invalid(NO_SPEC if target.name is None else NO_NAME)

    def lease(self, target: Target) -> AbstractContextManager[Lease]:
        """Hold the version that a request is for.

        Raises
        ------
        StatusError
            The request names no model, or one that does not serve.
        """
        name = self.model_name(target)
        if target.label:
            raise invalid(f"Unrecognized servable version label: {target.label}")
        model = self._models.get(name)
        if model is None:
            which = f"Latest({name})" if target.version is None else f"Specific({name}, {target.version})"
            raise StatusError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {which}")
        return model.lease(target.version)

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Count a prediction while it lasts.

        Raises
        ------
        StatusError
            RESOURCE_EXHAUSTED: too many are in progress.
        """
        with self._metrics.count_in_flight(self._max_concurrent) as within:
            if not within:
                raise StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, TOO_MANY % self._max_concurrent)
            yield

    def run(
        self,
        lease: Lease,
        signature: Signature,
        inputs: Mapping[str, np.ndarray],
        aliases: Sequence[str],
        deadline: Deadline,
    ) -> list[np.ndarray]:
        """Run a model once a thread of the engine is free; the outputs come in the order of `aliases`.

        Raises
        ------
        StatusError
            DEADLINE_EXCEEDED, or what the engine answers.
        """
        waited_from = self._clock()
        left = deadline.left(waited_from)
        if left is not None and left <= 0:
            raise StatusError(grpc.StatusCode.DEADLINE_EXCEEDED, TIMED_OUT)
        if not self._gate.acquire(timeout=left):
            raise StatusError(grpc.StatusCode.DEADLINE_EXCEEDED, TIMED_OUT)
        try:
            started = self._clock()
            # A wait that took all the time leaves the engine its shortest limit.
            outputs = lease.model.run(signature.name, inputs, aliases, deadline.left(started))
            ended = self._clock()
        finally:
            self._gate.release()
        self._metrics.engine_wait.observe((started - waited_from) * 1e6, lease.name)
        self._metrics.runtime_latency.observe((ended - started) * 1e6, lease.name, "Predict", RUNTIME)
        return outputs
