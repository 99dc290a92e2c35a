from __future__ import annotations

import threading

from serval_serving.engines.deadlines import DeadlineWatch

LIMIT = 20.0


def test_no_limit_starts_no_thread() -> None:
    before = threading.active_count()
    with DeadlineWatch().limit(None, lambda: None):
        assert threading.active_count() == before


def test_a_late_run_is_stopped() -> None:
    stopped = threading.Event()
    with DeadlineWatch().limit(0.01, stopped.set):
        assert stopped.wait(LIMIT)


def test_a_limit_that_has_passed_stops_at_once() -> None:
    stopped = threading.Event()
    with DeadlineWatch().limit(-1.0, stopped.set):
        assert stopped.wait(LIMIT)


def test_a_run_in_time_is_not_stopped() -> None:
    watch = DeadlineWatch()
    early, late = threading.Event(), threading.Event()
    with watch.limit(0.05, early.set):
        pass
    # The next one is stopped after the time of the first has passed too.
    with watch.limit(0.2, late.set):
        assert late.wait(LIMIT)
    assert not early.is_set()


def test_a_run_that_ends_sooner_wakes_the_watch() -> None:
    watch = DeadlineWatch()
    long, short = threading.Event(), threading.Event()
    with watch.limit(3600, long.set):
        with watch.limit(0.01, short.set):
            assert short.wait(LIMIT)
        assert not long.is_set()


def test_many_runs_share_one_thread() -> None:
    watch = DeadlineWatch()
    stopped = [threading.Event() for _ in range(50)]
    before = threading.active_count()
    limits = [watch.limit(0.01, event.set) for event in stopped]
    for limit in limits:
        limit.__enter__()
    try:
        assert all(event.wait(LIMIT) for event in stopped)
        assert threading.active_count() <= before + 1
    finally:
        for limit in limits:
            limit.__exit__(None, None, None)
