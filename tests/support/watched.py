"""What the operator watches, for tests: ModelDeployments, what belongs to them, and nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from serval_operator.api.naming import Key
from serval_operator.api.resources import MODEL_DEPLOYMENTS, PODS, Resource
from serval_operator.api.snapshots import PodView
from serval_operator.kinds.model_deployment import KIND
from serval_operator.runtime.availability import Availability, Source, sources
from serval_operator.runtime.cache import Cache, watched

OWNERS = (MODEL_DEPLOYMENTS,)
WATCHED = watched(OWNERS, KIND.owns, nodes=True)


def availability(
    *namespaces: str | None,
    kinds: Sequence[Resource] = WATCHED,
    on_change: Callable[[Source], None] = lambda _: None,
) -> Availability:
    """The state of some kinds in some namespaces, or in all, of which nothing is known yet."""
    return Availability(sources(kinds, namespaces or (None,)), dict.fromkeys(OWNERS, KIND.owns), on_change)


def pods(cache: Cache, key: Key) -> tuple[PodView, ...]:
    """Pods of a key in a cache."""
    return cache.owned(PODS, key)
