"""What the operator watches, for tests: ModelDeployments, what belongs to them, and nodes."""

from __future__ import annotations

from serval_operator.api.naming import Key
from serval_operator.api.resources import MODEL_DEPLOYMENTS, PODS
from serval_operator.api.snapshots import PodView
from serval_operator.kinds.model_deployment import KIND
from serval_operator.runtime.cache import Cache, watched

OWNERS = (MODEL_DEPLOYMENTS,)
WATCHED = watched(OWNERS, KIND.owns, nodes=True)


def pods(cache: Cache, key: Key) -> tuple[PodView, ...]:
    """Pods of a key in a cache."""
    return cache.owned(PODS, key)
