"""What the server counts: TensorFlow Serving's metrics under its names, and a few of our own."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import grpc

from serval_contract.metrics import (
    ACCELERATOR_GAUGE,
    DEVICE_HEALTHY_GAUGE,
    DEVICE_LABEL,
    DEVICE_PROGRAMMED_GAUGE,
    EMULATED_DEVICE,
    EMULATED_LABEL,
    ENGINE_LABEL,
    REQUESTS_GAUGE,
)
from serval_serving.engines.base import CPU, DeviceReport
from serval_serving.server.prometheus import (
    Counter,
    Gauge,
    Gauges,
    Histogram,
    Level,
    Metric,
    ReadCounter,
    exponential_buckets,
    page,
)

# The buckets of TensorFlow Serving: 10 us to about 20 minutes.
_LATENCIES = exponential_buckets(10, 1.8, 33)
_ROWS = exponential_buckets(1, 2, 15)
_PREFIX = ":tensorflow:serving:"
_STATM = Path("/proc/self/statm")

PREDICT = "Predict"
CLASSIFY = "Classify"
REGRESS = "Regress"
MULTI_INFERENCE = "MultiInference"
"""What the label `API` says."""

GRPC = "GRPC"
REST = "REST"
SCORE = "SCORE"
"""What the label `entrypoint` says."""


Devices = Callable[[], Mapping[tuple[str, ...], str]]
"""Says what each version that serves, by model and number, runs on."""
DeviceReports = Callable[[], Mapping[tuple[str, str], DeviceReport]]
"""Says how the device is of each version, by model and number, that has one for itself."""
_NO_ACCELERATOR = frozenset({CPU, EMULATED_DEVICE})


class RequestMetrics:
    """The metrics of requests and of the process, wherever the models are."""

    def __init__(self) -> None:
        self._in_flight = 0
        self._lock = threading.Lock()
        self._requests: tuple[Metric, ...] = (*self._of_requests(), *self._of_the_process())

    def _of_requests(self) -> tuple[Metric, ...]:
        """Make those of every request."""
        self.requests = Counter(
            f"{_PREFIX}request_count", "The total number of requests.", ("model_name", "status")
        )
        self.request_latency = Histogram(
            f"{_PREFIX}request_latency",
            "Microseconds of requests that succeeded.",
            ("model_name", "API", "entrypoint"),
            _LATENCIES,
        )
        self.request_bytes = Counter(
            "serval_request_bytes_total",
            "Bytes of request messages and bodies.",
            ("model_name", "entrypoint"),
        )
        self.samples = Counter("serval_samples_total", "Requests that were chosen as samples.", ("outcome",))
        return self.requests, self.request_latency, self.request_bytes, self.samples

    def _of_the_process(self) -> tuple[Metric, ...]:
        """Make those that are read when they are asked for."""
        return (
            Gauge(REQUESTS_GAUGE, "Predictions in progress, waiting ones included.", self.in_flight),
            Gauge("process_resident_memory_bytes", "Resident memory.", _resident_bytes),
            ReadCounter("process_cpu_seconds_total", "User and system CPU seconds.", _cpu_seconds),
        )

    def in_flight(self) -> int:
        """Count the predictions in progress."""
        with self._lock:
            return self._in_flight

    def begin(self, limit: int) -> bool:
        """Count a prediction as in progress until `end`, unless the limit (0 for none) is reached."""
        with self._lock:
            if limit and self._in_flight >= limit:
                return False
            self._in_flight += 1
            return True

    def end(self) -> None:
        """Stop counting a prediction as in progress."""
        with self._lock:
            self._in_flight -= 1

    def ended(self, model: str, code: grpc.StatusCode) -> None:
        """Count a request that ended."""
        self.requests.add(model, code.name)

    def request_page(self) -> str:
        """Write the metrics of requests and of the process as text."""
        return page(self._requests)


class Metrics(RequestMetrics):
    """All metrics of a server that has the models itself.

    Parameters
    ----------
    devices:
        Says what runs where.
    reports:
        Says how devices are.
    """

    def __init__(self, devices: Devices = dict, reports: DeviceReports = dict) -> None:
        super().__init__()
        self._all = (
            *self._requests,
            *self._of_examples(),
            *self._of_engines(devices),
            *_of_devices(reports),
            *self._of_batches(),
        )

    def _of_examples(self) -> tuple[Metric, ...]:
        """Make those of requests that hold Examples, and of warming up."""
        self.example_counts = Histogram(
            f"{_PREFIX}request_example_counts",
            "The number of tensorflow.Examples per request.",
            ("model",),
            _ROWS,
        )
        self.example_total = Counter(
            f"{_PREFIX}request_example_count_total", "The total number of tensorflow.Examples.", ("model",)
        )
        self.warm_up_latency = Histogram(
            f"{_PREFIX}model_warmup_latency",
            "Microseconds of warming up a model.",
            ("model_path", "status"),
            _LATENCIES,
        )
        return self.example_counts, self.example_total, self.warm_up_latency

    def _of_batches(self) -> tuple[Metric, ...]:
        """Make those of waiting for the engine."""
        self.engine_wait = Histogram(
            "serval_engine_wait_microseconds",
            "Microseconds that requests waited for a free engine thread.",
            ("model_name",),
            _LATENCIES,
        )
        self.queue_length = Level("serval_queue_length", "Predictions that wait to be put into a batch.")
        self.queuing_latency = Histogram(
            f"{_PREFIX}batching_session:queuing_latency",
            "Microseconds that requests waited in the queue of a batch.",
            ("thread_pool_name",),
            _LATENCIES,
        )
        self.batch_size = Histogram(
            "serval_batch_size",
            "Rows of the batches that were run, padding excluded.",
            ("model_name",),
            _ROWS,
        )
        return self.engine_wait, self.queue_length, self.queuing_latency, self.batch_size

    def _of_engines(self, devices: Devices) -> tuple[Metric, ...]:
        """Make those of what runs the models."""
        self.runtime_latency = Histogram(
            f"{_PREFIX}runtime_latency",
            "Microseconds inside the engine.",
            ("model_name", "API", "runtime"),
            _LATENCIES,
        )
        in_use = Gauges(
            ACCELERATOR_GAUGE,
            "1 for a version that runs on an accelerator, 0 for one on the CPU or an emulated device.",
            ("model_name", "version", DEVICE_LABEL),
            lambda: {
                (*labels, used): float(used not in _NO_ACCELERATOR)
                for labels, used in devices().items()
                if used
            },
        )
        return self.runtime_latency, in_use

    def page(self) -> str:
        """Write all metrics as text."""
        return page(self._all)

    def examples(self, model: str, count: int) -> None:
        """Count the examples of one request."""
        self.example_counts.observe(count, model)
        self.example_total.add(model, amount=count)


def _of_devices(reports: DeviceReports) -> tuple[Metric, ...]:
    """Make those of devices that hold one model."""
    labels = ("model_name", "version", ENGINE_LABEL, DEVICE_LABEL, EMULATED_LABEL)

    def read(value: Callable[[DeviceReport], float]) -> dict[tuple[str, ...], float]:
        return {
            (*version, one.engine, one.computes_on, str(one.emulated).lower()): value(one)
            for version, one in reports().items()
        }

    return (
        Gauges(
            DEVICE_PROGRAMMED_GAUGE,
            "Part of the programming of the version's device that is done.",
            labels,
            lambda: read(lambda one: one.programmed),
        ),
        Gauges(
            DEVICE_HEALTHY_GAUGE,
            "1 while the version's device is healthy.",
            labels,
            lambda: read(lambda one: float(not one.fault)),
        ),
    )


def _resident_bytes() -> float:
    """Read this process's resident memory."""
    pages = int(_STATM.read_text(encoding="ascii").split()[1])
    return float(pages * os.sysconf("SC_PAGE_SIZE"))


def _cpu_seconds() -> float:
    """Read the CPU time that this process used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
