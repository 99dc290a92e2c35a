"""From a pod's change at the API server to the status of its ModelDeployment: 100 events, one after another.

Both times are the API server's own, from its audit log: when it had stored the pod's status, and when it had
stored what the operator then wrote. Goal on an idle machine: p50 under 100 ms, p99 under 500 ms.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.bench_plane import NAMESPACE, Bench, bench, is_status_write, moment
from support import kubelet as states
from support.models import model_deployment
from support.wait import until

EVENTS = 100
NAME = "latency"


def main(_arguments: Sequence[str] = ()) -> None:
    """Measure and print."""
    with bench() as stand:
        delays = sorted(measure(stand))
    p50, p99 = statistics.median(delays), delays[int(0.99 * len(delays)) - 1]
    figures = f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, max {delays[-1]:.1f} ms"
    print(f"{len(delays)} pod events -> status write: {figures}")


def measure(stand: Bench) -> list[float]:
    """Milliseconds of each event."""
    stand.cluster.create(model_deployment(NAME, NAMESPACE))
    (pod,) = until("a pod", lambda: stand.kubelet.pods(NAME))
    start = stand.audit_size()
    for number in range(EVENTS):
        good = number % 2 == 1
        stand.kubelet.write(pod, states.ready() if good else states.crashed(number + 1, f"event {number}"))
        wanted = ("True", "Serving") if good else ("False", "CrashLoop")
        stand.cluster.until_condition(NAMESPACE, NAME, "Ready", *wanted)
    # The last audit event may still be on its way to the file.
    return until("all events in the audit log", lambda: _complete(_delays(stand, start)))


def _complete(delays: list[float]) -> list[float] | None:
    return delays if len(delays) == EVENTS else None


def _delays(stand: Bench, start: int) -> list[float]:
    """Pair each write of the pod's status with the operator's next write of the CR's status."""
    delays, changed = [], None
    for event in sorted(stand.audit(start), key=moment):
        ref = event.get("objectRef", {})
        if ref.get("resource") == "pods" and ref.get("subresource") == "status" and event["verb"] == "patch":
            changed = moment(event)
        elif is_status_write(event) and changed is not None:
            delays.append((moment(event) - changed).total_seconds() * 1000)
            changed = None
    return delays
