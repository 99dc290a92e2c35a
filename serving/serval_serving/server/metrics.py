"""What the server counts: TensorFlow Serving's metrics under its names, and a few of our own."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

from serval_serving.server.prometheus import (
    Counter,
    Gauge,
    Histogram,
    ReadCounter,
    exponential_buckets,
    page,
)

# The buckets of TensorFlow Serving: 10 us to about 20 minutes.
_LATENCIES = exponential_buckets(10, 1.8, 33)
_STATM = Path("/proc/self/statm")

GRPC = "GRPC"
REST = "REST"
SCORE = "SCORE"


class Metrics:
    """All metrics of one server."""

    def __init__(self) -> None:
        prefix = ":tensorflow:serving:"
        self.requests = Counter(
            f"{prefix}request_count", "The total number of requests.", ("model_name", "status")
        )
        self.request_latency = Histogram(
            f"{prefix}request_latency",
            "Microseconds of requests that succeeded.",
            ("model_name", "API", "entrypoint"),
            _LATENCIES,
        )
        self.runtime_latency = Histogram(
            f"{prefix}runtime_latency",
            "Microseconds inside the engine.",
            ("model_name", "API", "runtime"),
            _LATENCIES,
        )
        self.request_bytes = Counter(
            "serval_request_bytes_total",
            "Bytes of request messages and bodies.",
            ("model_name", "entrypoint"),
        )
        self.engine_wait = Histogram(
            "serval_engine_wait_microseconds",
            "Microseconds that requests waited for a free engine thread.",
            ("model_name",),
            _LATENCIES,
        )
        self._in_flight = 0
        self._lock = threading.Lock()
        self._all = (
            self.requests,
            self.request_latency,
            self.runtime_latency,
            self.request_bytes,
            self.engine_wait,
            Gauge(
                "serval_requests_in_flight", "Predictions in progress, waiting ones included.", self.in_flight
            ),
            Gauge("process_resident_memory_bytes", "Resident memory.", _resident_bytes),
            ReadCounter("process_cpu_seconds_total", "User and system CPU seconds.", _cpu_seconds),
        )

    def in_flight(self) -> int:
        """Count the predictions in progress."""
        with self._lock:
            return self._in_flight

    @contextmanager
    def count_in_flight(self, limit: int) -> Iterator[bool]:
        """Count a prediction while it lasts; the answer is whether it is within the limit (0 for none)."""
        with self._lock:
            self._in_flight += 1
            within = not limit or self._in_flight <= limit
        try:
            yield within
        finally:
            with self._lock:
                self._in_flight -= 1

    def ended(self, model: str, code: grpc.StatusCode) -> None:
        """Count a request that ended."""
        self.requests.add(model, code.name)

    def page(self) -> str:
        """Write all metrics as text."""
        return page(self._all)


def _resident_bytes() -> float:
    """Read this process's resident memory."""
    pages = int(_STATM.read_text(encoding="ascii").split()[1])
    return float(pages * os.sysconf("SC_PAGE_SIZE"))


def _cpu_seconds() -> float:
    """Read the CPU time that this process used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
