"""What the operator tells of itself to Prometheus. Names start with ``serval_operator_``.

Hot paths look their label sets up once. What is a state rather than a count (depth of the queue, age of a
watch, objects in the cache) is read when Prometheus asks.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from serval_operator.api.conditions import Condition
from serval_operator.api.naming import Key
from serval_operator.constants import READY

PREFIX = "serval_operator"
CONDITION_METRIC = "serval_condition"
"""The only metric that is about the users' objects rather than about the operator."""
_VALUES = {"True": 1.0, "False": 0.0, "Unknown": -1.0}
REQUEST_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
RECONCILE_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 30.0)
READY_BUCKETS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0)
"""Seconds. Images and models of some gigabytes take minutes."""


class Metrics:
    """All metrics of the operator, in a registry of their own.

    It is the meter of every part that takes one: requests, queue, listings and reconciler.

    Parameters
    ----------
    each_condition:
        Whether `CONDITION_METRIC` has a series for each condition of each object.
    """

    def __init__(self, registry: CollectorRegistry | None = None, *, each_condition: bool = False) -> None:
        self.registry = registry or CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            f"{PREFIX}_api_requests",
            "Requests to the API server; code `none` had no answer.",
            ["verb", "resource", "code"],
            registry=self.registry,
        )
        self._request_seconds = Histogram(
            f"{PREFIX}_api_request_seconds",
            "Time of requests to the API server.",
            ["verb", "resource"],
            buckets=REQUEST_BUCKETS,
            registry=self.registry,
        )
        self._reconciles = Histogram(
            f"{PREFIX}_reconcile_seconds",
            "Time of reconciles by outcome: done, again, or the error that ended it.",
            ["kind", "outcome"],
            buckets=RECONCILE_BUCKETS,
            registry=self.registry,
        )
        self._declare_objects()
        self._request_cells: dict[tuple[str, str, str], tuple[Counter, Histogram]] = {}
        self._reasons: dict[Key, str] = {}
        self._by_reason: Tally[tuple[str, str]] = Tally()
        self._conditions = _Conditions() if each_condition else None
        if self._conditions is not None:
            self.registry.register(self._conditions)

    def _declare_objects(self) -> None:
        """Metrics of the objects that the operator looks after."""
        self._phases = Histogram(
            f"{PREFIX}_pod_ready_seconds",
            "Time that pods took to become ready, by phase: scheduling, image, fetch, load.",
            ["kind", "phase"],
            buckets=READY_BUCKETS,
            registry=self.registry,
        )
        self._objects = Gauge(
            f"{PREFIX}_objects",
            "Custom resources by the reason of their Ready condition.",
            ["kind", "reason"],
            registry=self.registry,
        )
        self._repairs = Counter(
            f"{PREFIX}_repaired_objects",
            "Custom resources about which a listing told something that no event had told.",
            ["resource"],
            registry=self.registry,
        )
        self._events = Counter(
            f"{PREFIX}_events_failed",
            "Kubernetes Events that could not be posted.",
            registry=self.registry,
        )

    def request(self, verb: str, resource: str, code: str, seconds: float) -> None:
        """One request to the API server ended."""
        cell = self._request_cells.get((verb, resource, code))
        if cell is None:
            cell = (
                self._requests.labels(verb, resource, code),
                self._request_seconds.labels(verb, resource),
            )
            self._request_cells[verb, resource, code] = cell
        cell[0].inc()
        cell[1].observe(seconds)

    def reconciled(self, kind: str, outcome: str, seconds: float) -> None:
        """A reconcile of an object of a kind ended."""
        self._reconciles.labels(kind, outcome).observe(seconds)

    def repaired(self, resource: str, objects: int) -> None:
        """A listing repaired the cache."""
        self._repairs.labels(resource).inc(objects)

    def event_failed(self) -> None:
        """A Kubernetes Event could not be posted."""
        self._events.inc()

    def conditions(self, key: Key, conditions: Sequence[Condition]) -> None:
        """The conditions of an object now; none when it is gone."""
        if self._conditions is not None:
            self._conditions.put(key, conditions)
        reason = next((one.reason for one in conditions if one.type == READY), None)
        before = self._reasons.get(key)
        if before == reason:
            return
        if before is not None:
            self._count(key.kind, before, -1)
            del self._reasons[key]
        if reason is not None:
            self._count(key.kind, reason, 1)
            self._reasons[key] = reason

    def pod_ready(self, kind: str, seconds_by_phase: Mapping[str, float]) -> None:
        """A pod of an object of a kind became ready."""
        for phase, seconds in seconds_by_phase.items():
            self._phases.labels(kind, phase).observe(seconds)

    def watch_state(self, name: str, text: str, label: str, read: Callable[[], Mapping[str, float]]) -> None:
        """Publish a gauge whose values are read when they are asked for.

        Parameters
        ----------
        name, text:
            Name, without the prefix, and what it means.
        label:
            Label that tells the values apart; empty for a single value under the key "".
        read:
            Gives the values by label value.
        """
        labels = (label,) if label else ()
        self.watch_states(
            name,
            text,
            labels,
            lambda: {(value,) if label else (): number for value, number in read().items()},
        )

    def watch_states(
        self,
        name: str,
        text: str,
        labels: Sequence[str],
        read: Callable[[], Mapping[tuple[str, ...], float]],
    ) -> None:
        """Publish a gauge with several labels whose values are read when they are asked for."""
        self.registry.register(_State(f"{PREFIX}_{name}", text, labels, read))

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def _count(self, kind: str, reason: str, step: int) -> None:
        self._by_reason[kind, reason] += step
        # A reason that no object has any more stays at 0: a series that ends would look like missing data.
        self._objects.labels(kind, reason).set(self._by_reason[kind, reason])


class _Conditions(Collector):
    """A series for each condition of each object, so that an alert can name the object."""

    def __init__(self) -> None:
        self._known: dict[Key, tuple[tuple[str, str, float], ...]] = {}

    def put(self, key: Key, conditions: Sequence[Condition]) -> None:
        """Take the conditions of an object; none forgets it."""
        if conditions:
            self._known[key] = tuple((one.type, one.reason, _VALUES[one.status]) for one in conditions)
        else:
            self._known.pop(key, None)

    def describe(self) -> list[GaugeMetricFamily]:
        """The family without values."""
        return [self._family()]

    def collect(self) -> list[GaugeMetricFamily]:
        """The family with a value for each condition."""
        family = self._family()
        for key, conditions in self._known.items():
            for kind, reason, value in conditions:
                family.add_metric([*key, kind, reason], value)
        return [family]

    def _family(self) -> GaugeMetricFamily:
        text = "Conditions of custom resources: 1 if True, 0 if False, -1 if Unknown."
        return GaugeMetricFamily(
            CONDITION_METRIC, text, labels=["kind", "namespace", "name", "type", "reason"]
        )


class _State(Collector):
    """A gauge that is read when it is asked for."""

    def __init__(
        self,
        name: str,
        text: str,
        labels: Sequence[str],
        read: Callable[[], Mapping[tuple[str, ...], float]],
    ) -> None:
        self._name = name
        self._text = text
        self._labels = tuple(labels)
        self._read = read

    def describe(self) -> list[GaugeMetricFamily]:
        """The family without values, so that registering does not read any."""
        return [self._family()]

    def collect(self) -> list[GaugeMetricFamily]:
        """The family with its values now."""
        family = self._family()
        for values, number in self._read().items():
            family.add_metric(values, number)
        return [family]

    def _family(self) -> GaugeMetricFamily:
        return GaugeMetricFamily(self._name, self._text, labels=self._labels)
