"""How long a pod took to become ready, split by what it waited for."""

from __future__ import annotations

from datetime import datetime

from serval_operator.api.snapshots import PodView
from serval_operator.pods.pod_state import fetch_result

SCHEDULING, IMAGE, FETCH, LOAD = "scheduling", "image", "fetch", "load"


def phases(pod: PodView) -> dict[str, float]:
    """Seconds by phase of a ready pod; a phase whose ends are not known is left out.

    Scheduling lasts until the pod has a node. Fetch is what the fetch container took by its own measure,
    since the kubelet's times have whole seconds. Image is all other time until the server starts: sandbox,
    volumes and image pulls. Load is from there until the pod is ready. Of a server that was started again
    the first start is not known any more; then image ends with the fetch.
    """
    fetch, server = pod.fetch, pod.server
    result = fetch_result(pod)
    fetched = fetch.terminated.finished if fetch and fetch.terminated else pod.initialized
    started = server.started if server and not server.restarts else fetched
    seconds = result.seconds if result else None
    spans = {
        SCHEDULING: _between(pod.created, pod.scheduled),
        FETCH: seconds,
        LOAD: _between(started, pod.became_ready),
    }
    before_load = _between(pod.scheduled, started)
    if before_load is not None:
        spans[IMAGE] = max(before_load - (seconds or 0.0), 0.0)
    return {phase: span for phase, span in spans.items() if span is not None}


def _between(start: datetime | None, end: datetime | None) -> float | None:
    if start is None or end is None:
        return None
    return max((end - start).total_seconds(), 0.0)
