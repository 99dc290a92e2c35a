"""Pods that ended as a whole after a node had accepted them, such as evicted ones: which of them to delete.

Their ReplicaSet replaces them and never deletes them. The garbage collection of Kubernetes begins at 12,500
pods (`--terminated-pod-gc-threshold`), so a model that is evicted again and again would leave as many.
Refused pods are not among them: `refused_pod_backoff` needs those, and deletes them itself.
"""

from __future__ import annotations

from datetime import UTC, datetime

from serval_operator.api.snapshots import PodView
from serval_operator.pods.observation import Observed
from serval_operator.pods.refused_pod_backoff import is_refused

KEPT = 3
"""Ended pods that stay for a reader, the newest ones."""
_UNKNOWN = datetime(1970, 1, 1, tzinfo=UTC)


def surplus_failed(observed: Observed) -> tuple[PodView, ...]:
    """Ended pods beyond those that stay for a reader, the oldest first."""
    ended = [pod for pod in observed.living() if pod.ended and not is_refused(pod)]
    ended.sort(key=lambda pod: (pod.changed or pod.created or _UNKNOWN, pod.name))
    return tuple(ended[:-KEPT])
