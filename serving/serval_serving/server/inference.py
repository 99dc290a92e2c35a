"""What every entry point shares: finding a model, admitting a request, running it."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple

import grpc
import numpy as np

from serval_serving.engines.base import (
    CLASSIFY_METHOD,
    PREDICT_METHOD,
    REGRESS_METHOD,
    TIMED_OUT,
    Signature,
)
from serval_serving.models.handle import ServableHandle
from serval_serving.models.manager import NO_LABEL, ModelManager
from serval_serving.server import tracing
from serval_serving.server.batching import Batching
from serval_serving.server.metrics import PREDICT, Metrics, RequestMetrics
from serval_serving.server.receipts import Receipts
from serval_serving.server.request_timing import RequestTiming
from serval_serving.wire.held import Held
from serval_serving.wire.status import StatusError, invalid

NO_SPEC = "Missing ModelSpec"
NO_NAME = "ModelSpec has no name specified."
WRONG_METHOD = (
    "Expected prediction signature method_name to be one of "
    f"{{{PREDICT_METHOD}, {CLASSIFY_METHOD}, {REGRESS_METHOD}}}. Was: %s"
)
TOO_MANY = "Too many concurrent requests: the limit is %d."

_MOST_MODELS = 100
"""Models that the metrics tell apart though they are not configured here, but in an upstream server."""

_PREDICT_METHODS = frozenset({PREDICT_METHOD, CLASSIFY_METHOD, REGRESS_METHOD})


@dataclass(frozen=True, slots=True)
class Target:
    """Which model a request is for. `name` None: the request did not say."""

    name: str | None
    version: int | None = None
    label: str = ""
    signature: str = ""
    route: str = ""
    """The service that an unnamed request was sent to, which may have the model's name."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """The time that a request has, and where its times are recorded.

    Attributes
    ----------
    at:
        The moment, in the clock's seconds, after which the caller no longer waits; None for never.
    timing:
        Where to add them; None when the caller did not ask.
    """

    at: float | None = None
    timing: RequestTiming | None = None

    def left(self, now: float) -> float | None:
        """Seconds left, which may be negative; None where there is no deadline."""
        return None if self.at is None else self.at - now


class Run(NamedTuple):
    """A run of a model for a request.

    Attributes
    ----------
    model, version, signature:
        What ran. Behind a proxy this is not always the version that the request was read for.
    inputs:
        Its inputs by alias.
    aliases, outputs:
        Its outputs, in the order of their aliases.
    """

    model: str
    version: int
    signature: Signature
    inputs: Mapping[str, np.ndarray]
    aliases: Sequence[str]
    outputs: Sequence[np.ndarray]


class Admission:
    """Counts predictions, limits how many are in progress, and knows the time.

    Parameters
    ----------
    metrics:
        Where to count.
    max_concurrent:
        Predictions in progress at once, waiting ones included; 0 for no limit.
    clock:
        Monotonic seconds.
    receipts:
        The messages that are arriving.
    """

    _models: Container[str] | None = None

    def __init__(
        self,
        metrics: RequestMetrics,
        max_concurrent: int = 0,
        clock: Callable[[], float] = time.monotonic,
        receipts: Receipts | None = None,
    ) -> None:
        self._metrics = metrics
        self._max_concurrent = max_concurrent
        self._clock = clock
        self._answered: set[str] = set()
        self.receipts = receipts or Receipts()

    @property
    def metrics(self) -> RequestMetrics:
        """Where requests are counted."""
        return self._metrics

    def has_model(self, name: str, *, answered: bool) -> bool:
        """Whether there is a model of a name, or the name is empty since it is not known.

        `answered` is whether a request for it succeeded, so that there must be one.
        """
        if answered and len(self._answered) < _MOST_MODELS:
            self._answered.add(name)
        return not name or name in self._answered or self._is_model(name)

    def _is_model(self, name: str) -> bool:
        """Whether a model of this name is configured."""
        return self._models is None or name in self._models

    def now(self) -> float:
        """Read the clock."""
        return self._clock()

    def deadline(self, seconds: float | None, timing: RequestTiming | None = None) -> Deadline:
        """Make the deadline that lies so many seconds ahead; None for none."""
        return Deadline(None if seconds is None else self._clock() + seconds, timing)

    def check_deadline(self, deadline: Deadline) -> None:
        """Stop the work for a caller who no longer waits.

        Raises
        ------
        StatusError
            DEADLINE_EXCEEDED.
        """
        if deadline.at is not None and self._clock() >= deadline.at:
            raise StatusError(grpc.StatusCode.DEADLINE_EXCEEDED, TIMED_OUT)

    def admitted(self) -> Held[None]:
        """Count a prediction while it lasts.

        Raises
        ------
        StatusError
            RESOURCE_EXHAUSTED: too many are in progress; raised where the `with` statement begins.
        """
        return Held(self._begin, self._end)

    def _begin(self) -> None:
        """Count a prediction, see `admitted`."""
        if not self._metrics.begin(self._max_concurrent):
            # A sender who is silent must not keep the place from those who come later.
            self.receipts.make_room()
            raise StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, TOO_MANY % self._max_concurrent)

    def _end(self, _begun: None) -> None:
        """Count a prediction no more."""
        self._metrics.end()


class Inference(Admission):
    """Runs predictions.

    Parameters
    ----------
    models:
        The models by name.
    metrics:
        Where to count.
    max_concurrent:
        Predictions in progress at once, waiting ones included; 0 for no limit.
    checks_methods:
        Whether signatures are only for what their method names say.
    clock:
        Monotonic seconds.
    receipts:
        The messages that are arriving.
    """

    _metrics: Metrics
    _models: Mapping[str, ModelManager]

    def __init__(
        self,
        models: Mapping[str, ModelManager],
        metrics: Metrics,
        *,
        max_concurrent: int = 0,
        checks_methods: bool = False,
        clock: Callable[[], float] = time.monotonic,
        receipts: Receipts | None = None,
    ) -> None:
        super().__init__(metrics, max_concurrent, clock, receipts)
        self._models = models
        self.checks_methods = checks_methods
        self._batching: Batching | None = None
        self._sample: Callable[[Run], None] | None = None

    @property
    def metrics(self) -> Metrics:
        """Where requests are counted."""
        return self._metrics

    def use_batches(self, batching: Batching) -> None:
        """Run requests in batches from now on."""
        self._batching = batching

    def use_samples(self, sample: Callable[[Run], None]) -> None:
        """Show each run of a request that succeeded from now on."""
        self._sample = sample

    def check_method(self, signature: Signature) -> None:
        """Refuse to predict with a signature that is for something else, where method names are looked at.

        Raises
        ------
        StatusError
            INTERNAL, as TensorFlow Serving has it.
        """
        if self.checks_methods and signature.method not in _PREDICT_METHODS:
            raise StatusError(grpc.StatusCode.INTERNAL, WRONG_METHOD % signature.method)

    def model(self, name: str) -> ModelManager | None:
        """Find a model; None if there is none of that name."""
        return self._models.get(name)

    def model_name(self, target: Target) -> str:
        """Name the model that a Predict call is for: the only one, where the request names none.

        TensorFlow Serving refuses such requests; the clients of Azure's accelerated models send no other.
        """
        if target.name:
            return target.name
        if target.route in self._models:
            return target.route
        # A service need not have its model's name; if there is one model, it is meant.
        if len(self._models) == 1:
            return next(iter(self._models))
        if target.route:
            return target.route
        raise invalid(NO_SPEC if target.name is None else NO_NAME)

    def acquire(self, target: Target) -> AbstractContextManager[ServableHandle]:
        """Hold the version that a request is for; the reply names it. Raises as `find`."""
        return tracing.noted(self.find(target))

    def find(self, target: Target) -> AbstractContextManager[ServableHandle]:
        """Return what holds the version that a request is for.

        Raises
        ------
        StatusError
            The request names no model, or one that does not serve.
        """
        name = self.model_name(target)
        model = self._models.get(name)
        if target.label:
            if model is None:
                raise invalid(NO_LABEL % target.label)
            return model.acquire(model.version_of(target.label))
        if model is None:
            which = f"Latest({name})" if target.version is None else f"Specific({name}, {target.version})"
            raise StatusError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {which}")
        return model.acquire(target.version)

    def run(
        self,
        handle: ServableHandle,
        signature: Signature,
        inputs: Mapping[str, np.ndarray],
        aliases: Sequence[str],
        deadline: Deadline,
        api: str = PREDICT,
    ) -> list[np.ndarray]:
        """Run a model once its engine has a free slot; the outputs come in the order of `aliases`.

        `api` is the call that it is for, as the metrics say.

        Raises
        ------
        StatusError
            DEADLINE_EXCEEDED, or what the engine answers.
        """
        outputs = self._run(handle, signature, inputs, aliases, deadline, api)
        trace = tracing.current()
        # A warm-up is no request.
        if self._sample is not None and trace is not None:
            version = handle.version if trace.version is None else trace.version
            self._sample(Run(handle.name, version, signature, inputs, aliases, outputs))
        return outputs

    def _run(
        self,
        handle: ServableHandle,
        signature: Signature,
        inputs: Mapping[str, np.ndarray],
        aliases: Sequence[str],
        deadline: Deadline,
        api: str,
    ) -> list[np.ndarray]:
        """Run a model in a batch, or once its engine has a free slot."""
        asked_from = self._clock()
        left = deadline.left(asked_from)
        if left is not None and left <= 0:
            raise StatusError(grpc.StatusCode.DEADLINE_EXCEEDED, TIMED_OUT)
        # This may wait, and others need neither the slot nor the batch meanwhile.
        handle.model.check(signature.name, inputs, aliases, left)
        if self._batching is not None:
            scheduler = self._batching.scheduler(handle)
            return scheduler.run(handle, signature, inputs, aliases, deadline.at, deadline.timing)
        waited_from = self._clock()
        left = deadline.left(waited_from)
        slots = handle.model.slots
        if not slots.acquire(timeout=left):
            raise StatusError(grpc.StatusCode.DEADLINE_EXCEEDED, TIMED_OUT)
        try:
            started = self._clock()
            # A wait that took all the time leaves the engine its shortest limit.
            outputs = self.execute(handle, signature, inputs, aliases, deadline.left(started), api)
        finally:
            slots.release()
        if deadline.timing is not None:
            deadline.timing.add(started - waited_from, self._clock() - started)
        self._metrics.engine_wait.observe((started - waited_from) * 1e6, handle.name)
        return outputs

    def execute(
        self,
        handle: ServableHandle,
        signature: Signature,
        inputs: Mapping[str, np.ndarray],
        aliases: Sequence[str],
        seconds: float | None,
        api: str = PREDICT,
    ) -> list[np.ndarray]:
        """Run a model at once, whatever else is running; it has so many seconds.

        Raises
        ------
        StatusError
            What the engine answers.
        """
        started = self._clock()
        outputs = handle.model.run(signature.name, inputs, aliases, seconds)
        microseconds = (self._clock() - started) * 1e6
        self._metrics.runtime_latency.observe(microseconds, handle.name, api, handle.model.runtime)
        return outputs
