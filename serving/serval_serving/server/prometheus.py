"""Counters, gauges and histograms, and their text for Prometheus.

The names must be TensorFlow Serving's, such as `:tensorflow:serving:request_count`. The official Python
client adds `_total` to the names of counters, so these few lines stand in for it.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence

MAX_SERIES = 1000
"""Label values come from requests: past this many combinations further ones are counted as one."""

OVERFLOW = "(other)"
"""The label value of that one."""

Labels = tuple[str, ...]


def exponential_buckets(scale: float, factor: float, count: int) -> tuple[float, ...]:
    """Give the upper limits scale, scale * factor, ... of a histogram's buckets."""
    return tuple(scale * factor**index for index in range(count))


class Metric:
    """A name, its help text, the names of its labels, and one value per combination of their values."""

    kind = "untyped"

    def __init__(self, name: str, text: str, labels: Sequence[str]) -> None:
        self.name = name
        self._text = text
        self._labels = tuple(labels)
        self._lock = threading.Lock()

    def lines(self) -> Iterable[str]:
        """Write the metric as text."""
        yield f"# HELP {self.name} {self._text}"
        yield f"# TYPE {self.name} {self.kind}"
        yield from self._samples()

    def _samples(self) -> Iterable[str]:
        raise NotImplementedError

    def _key(self, labels: Labels, known: Mapping[Labels, object]) -> Labels:
        """Use the combination itself, or the one that stands for all others once there are too many."""
        if labels in known or len(known) < MAX_SERIES:
            return labels
        return (OVERFLOW,) * len(labels)

    def _spelled(self, labels: Labels, *more: tuple[str, str]) -> str:
        """Spell labels as `{name="value"}`."""
        pairs = (*zip(self._labels, labels, strict=True), *more)
        return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs) + "}"


class Counter(Metric):
    """A number that only grows."""

    kind = "counter"

    def __init__(self, name: str, text: str, labels: Sequence[str] = ()) -> None:
        super().__init__(name, text, labels)
        self._values: dict[Labels, float] = {}

    def add(self, *labels: str, amount: float = 1) -> None:
        """Add to the value of one combination of labels."""
        with self._lock:
            key = self._key(labels, self._values)
            self._values[key] = self._values.get(key, 0) + amount

    def _samples(self) -> Iterable[str]:
        with self._lock:
            values = dict(self._values)
        for labels, value in values.items():
            yield f"{self.name}{self._spelled(labels)} {value:.17g}"


class Gauge(Metric):
    """A number that is read when it is asked for."""

    kind = "gauge"

    def __init__(self, name: str, text: str, read: Callable[[], float]) -> None:
        super().__init__(name, text, ())
        self._read = read

    def _samples(self) -> Iterable[str]:
        yield f"{self.name} {self._read():.17g}"


class Gauges(Metric):
    """Numbers that are read when they are asked for, by labels."""

    kind = "gauge"

    def __init__(
        self, name: str, text: str, labels: Sequence[str], read: Callable[[], Mapping[Labels, float]]
    ) -> None:
        super().__init__(name, text, labels)
        self._read = read

    def _samples(self) -> Iterable[str]:
        for labels, value in self._read().items():
            yield f"{self.name}{self._spelled(labels)} {value:.17g}"


class Level(Metric):
    """A number that goes up and down."""

    kind = "gauge"

    def __init__(self, name: str, text: str) -> None:
        super().__init__(name, text, ())
        self._value = 0

    def add(self, amount: int) -> None:
        """Change the number."""
        with self._lock:
            self._value += amount

    def _samples(self) -> Iterable[str]:
        yield f"{self.name} {self._value}"


class ReadCounter(Gauge):
    """A number that only grows and that is read when it is asked for."""

    kind = "counter"


class _Buckets:
    """The values of one combination of labels."""

    def __init__(self, count: int) -> None:
        self.counts = [0] * count
        self.total = 0.0


class Histogram(Metric):
    """How values are distributed over buckets."""

    kind = "histogram"

    def __init__(self, name: str, text: str, labels: Sequence[str], limits: Sequence[float]) -> None:
        super().__init__(name, text, labels)
        self._limits = tuple(limits)
        self._values: dict[Labels, _Buckets] = {}

    def observe(self, value: float, *labels: str) -> None:
        """Count one value."""
        index = bisect_left(self._limits, value)
        with self._lock:
            key = self._key(labels, self._values)
            buckets = self._values.get(key)
            if buckets is None:
                buckets = self._values[key] = _Buckets(len(self._limits) + 1)
            buckets.counts[index] += 1
            buckets.total += value

    def _samples(self) -> Iterable[str]:
        with self._lock:
            values = {labels: (list(found.counts), found.total) for labels, found in self._values.items()}
        for labels, (counts, total) in values.items():
            below = 0
            for limit, count in zip((*self._limits, float("inf")), counts, strict=True):
                below += count
                spelled = "+Inf" if limit == float("inf") else f"{limit:.6g}"
                yield f"{self.name}_bucket{self._spelled(labels, ('le', spelled))} {below}"
            yield f"{self.name}_sum{self._spelled(labels)} {total:.17g}"
            yield f"{self.name}_count{self._spelled(labels)} {below}"


def page(metrics: Iterable[Metric]) -> str:
    """Write metrics as the text that Prometheus scrapes."""
    return "\n".join(line for metric in metrics for line in metric.lines()) + "\n"


def _escaped(value: str) -> str:
    """Escape a label's value."""
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
