from __future__ import annotations

import threading

import pytest

from serval_serving.server.metrics import Metrics
from serval_serving.server.prometheus import (
    MAX_SERIES,
    OVERFLOW,
    Counter,
    Gauge,
    Histogram,
    exponential_buckets,
    page,
)


def test_a_counter_keeps_its_name() -> None:
    counter = Counter(":tensorflow:serving:request_count", "Requests.", ("model_name", "status"))
    counter.add("m", "OK")
    counter.add("m", "OK", amount=2)
    assert page([counter]).splitlines() == [
        "# HELP :tensorflow:serving:request_count Requests.",
        "# TYPE :tensorflow:serving:request_count counter",
        ':tensorflow:serving:request_count{model_name="m",status="OK"} 3',
    ]


def test_a_histogram_counts_cumulatively_and_limits_belong_to_their_bucket() -> None:
    histogram = Histogram("h", "text", ("l",), (10, 18))
    for value in (1, 10, 11, 100):
        histogram.observe(value, "x")
    assert page([histogram]).splitlines()[2:] == [
        'h_bucket{l="x",le="10"} 2',
        'h_bucket{l="x",le="18"} 3',
        'h_bucket{l="x",le="+Inf"} 4',
        'h_sum{l="x"} 122',
        'h_count{l="x"} 4',
    ]


def test_labels_are_escaped() -> None:
    counter = Counter("c", "text", ("l",))
    counter.add('a"b\\c\nd')
    assert page([counter]).splitlines()[2] == r'c{l="a\"b\\c\nd"} 1'


def test_gauges_are_read_when_asked() -> None:
    values = iter([1, 2.5])
    gauge = Gauge("g", "text", lambda: next(values))
    assert page([gauge]).splitlines()[2] == "g 1"
    assert page([gauge]).splitlines()[2] == "g 2.5"


def test_callers_cannot_make_series_without_end() -> None:
    counter = Counter("c", "text", ("l",))
    for index in range(MAX_SERIES + 10):
        counter.add(str(index))
    counter.add("0")
    lines = page([counter]).splitlines()[2:]
    assert len(lines) == MAX_SERIES + 1
    assert f'c{{l="{OVERFLOW}"}} 10' in lines
    assert 'c{l="0"} 2' in lines


def test_buckets_are_tensorflow_servings() -> None:
    limits = exponential_buckets(10, 1.8, 33)
    assert limits[:3] == pytest.approx((10, 18, 32.4))
    assert len(limits) == 33


def test_threads_lose_no_count() -> None:
    counter = Counter("c", "text")
    threads = [threading.Thread(target=lambda: [counter.add() for _ in range(2000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert page([counter]).splitlines()[2] == "c{} 8000"


def test_in_flight_counts_and_limits() -> None:
    metrics = Metrics()
    assert [metrics.begin(2), metrics.begin(2), metrics.begin(2), metrics.begin(0)] == [
        True,
        True,
        False,
        True,
    ]
    assert metrics.in_flight() == 3, "the one that was refused does not count"
    metrics.end()
    metrics.end()
    assert metrics.in_flight() == 1
    assert metrics.begin(2)
    assert not metrics.begin(2)
