"""How long a pod took, by what it waited for."""

from __future__ import annotations

import pytest

from serval_operator.api.snapshots import parse_pod
from serval_operator.pods.startup_latency import phases
from support import gen

pytestmark = pytest.mark.unit

LAST = gen.ended(1, "boom")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            (gen.fetched(after=10, seconds=2.5), gen.ready(after=20, started=13)),
            # placed after 1 s, server runs after 13 s, of which the fetch took 2.5 s
            {"scheduling": 1.0, "image": 9.5, "fetch": 2.5, "load": 7.0},
        ),
        (
            (gen.fetched(after=10, seconds=2.5), gen.ready(after=50, started=40, last=LAST)),
            {"scheduling": 1.0, "image": 6.5, "fetch": 2.5, "load": 40.0},
        ),
        (
            (gen.fetched(after=10, seconds=None), gen.ready(after=20, started=13)),
            {"scheduling": 1.0, "image": 12.0, "load": 7.0},
        ),
        (
            (gen.fetched(after=10, seconds=99), gen.ready(after=20, started=13)),
            {"scheduling": 1.0, "image": 0.0, "fetch": 99.0, "load": 7.0},
        ),
        ((gen.fetched(after=10, seconds=2.5),), {"scheduling": 1.0, "fetch": 2.5}),
        ((gen.fetch_running(),), {"scheduling": 1.0}),
        ((gen.placed(),), {"scheduling": 1.0}),
        ((gen.placed(), lambda obj: obj["metadata"].pop("creationTimestamp")), {}),
        ((gen.unschedulable("x"),), {}),
        ((), {}),
    ],
    ids=[
        "ready",
        "ready after a crash",
        "fetch told no time",
        "clocks differ",
        "fetched",
        "fetching",
        "placed",
        "no time of creation",
        "no node",
        "new",
    ],
)
def test_phases(options: tuple[gen.Option, ...], expected: dict[str, float]) -> None:
    assert phases(parse_pod(gen.pod("digits-1", *options))) == expected


def test_clocks_that_run_backwards_give_no_negative_time() -> None:
    pod = parse_pod(gen.pod("digits-1", gen.fetched(), gen.ready(after=5, started=12), created=100))
    assert min(phases(pod).values()) == 0.0
