"""How long a pod took to become ready, split by what it waited for."""

from __future__ import annotations

from datetime import datetime

from serval_operator.api.views import PodView
from serval_operator.planning.podstate import fetch_result

SCHEDULING, IMAGE, FETCH, LOAD = "scheduling", "image", "fetch", "load"


def phases(pod: PodView) -> dict[str, float]:
    """Seconds by phase of a ready pod; a phase whose ends are not known is left out.

    Scheduling lasts until the pod has a node, image until the fetch container starts (sandbox and image
    pull), fetch until it ends, load until the pod is ready. The kubelet's times have whole seconds; for
    fetch the container's own measure is used where it told one.
    """
    fetch = pod.fetch.terminated if pod.fetch else None
    result = fetch_result(pod)
    fetched = fetch.finished if fetch else pod.initialized
    seconds = result.seconds if result else None
    spans = {
        SCHEDULING: _between(pod.created, pod.scheduled),
        FETCH: seconds,
        LOAD: _between(fetched, pod.became_ready),
    }
    before_load = _between(pod.scheduled, fetched)
    if before_load is not None:
        spans[IMAGE] = max(before_load - (seconds or 0.0), 0.0)
    return {phase: span for phase, span in spans.items() if span is not None}


def _between(start: datetime | None, end: datetime | None) -> float | None:
    if start is None or end is None:
        return None
    return max((end - start).total_seconds(), 0.0)
