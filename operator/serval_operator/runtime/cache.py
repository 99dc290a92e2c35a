"""What the operator saw of the cluster, trimmed to what planning needs.

Each watched kind has a store (`store.py`). What is read here may be behind the cluster: whoever is about to
delete something reads it live.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

from serval_operator.api.cache_entry import CachedOwner, Finished, cache_owner, never_finished
from serval_operator.api.job_snapshots import parse_job
from serval_operator.api.naming import Key, Place
from serval_operator.api.nodes import NodeView
from serval_operator.api.resources import (
    AUTOSCALERS,
    CONTROLLER_REVISIONS,
    DEPLOYMENTS,
    DISRUPTION_BUDGETS,
    JOBS,
    NODES,
    PODS,
    SERVICES,
    Resource,
)
from serval_operator.api.snapshots import (
    Identity,
    OwnerView,
    parse_autoscaler,
    parse_deployment,
    parse_disruption,
    parse_pod,
    parse_revision,
    parse_service,
)
from serval_operator.constants import CHILD_SELECTOR, LABEL_MANAGED_BY, MANAGED_BY
from serval_operator.runtime.kube_api import Object
from serval_operator.runtime.node_store import NodeStore
from serval_operator.runtime.store import Store

CHILDREN: Mapping[Resource, Callable[[Mapping[str, Any]], Identity]] = {
    CONTROLLER_REVISIONS: parse_revision,
    DEPLOYMENTS: parse_deployment,
    SERVICES: parse_service,
    AUTOSCALERS: parse_autoscaler,
    DISRUPTION_BUDGETS: parse_disruption,
    PODS: parse_pod,
    JOBS: parse_job,
}
"""Kinds of objects that belong to custom resources, each with the snapshot that is kept of it."""


def selector(resource: Resource) -> str:
    """Label selector that a kind is listed and watched with; empty for all of the kind."""
    return CHILD_SELECTOR if resource in CHILDREN else ""


def watched(kinds: Iterable[Resource], owned: Iterable[Resource], *, nodes: bool) -> tuple[Resource, ...]:
    """What is watched: the custom resources, what belongs to them, and nodes.

    Parameters
    ----------
    kinds:
        Kinds of custom resources.
    owned:
        Kinds of objects that belong to them, each once.
    nodes:
        Whether the operator may watch nodes.
    """
    return (*kinds, *owned, *([NODES] if nodes else []))


class Cache:
    """One store per kind.

    Parameters
    ----------
    kinds:
        Kinds of custom resources.
    on_nodes_changed:
        Called when a node came, went, or offers something else.
    finished:
        By kind, whether nothing more happens to a custom resource. Where a kind is missing, none is finished.
    clock:
        Monotonic seconds.

    Attributes
    ----------
    synced:
        Whether each store was filled by a complete listing.
    """

    def __init__(
        self,
        kinds: Sequence[Resource],
        on_nodes_changed: Callable[[], None] = lambda: None,
        *,
        finished: Mapping[Resource, Finished] = MappingProxyType({}),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        ours = (LABEL_MANAGED_BY, MANAGED_BY)
        self._owners: dict[str, Store[CachedOwner]] = {
            resource.kind: Store(
                partial(cache_owner, resource.kind, finished=finished.get(resource, never_finished)),
                clock=clock,
            )
            for resource in kinds
        }
        self._nodes = NodeStore(on_nodes_changed, clock=clock)
        self._stores: dict[Resource, Store[Any]] = {
            **{resource: self._owners[resource.kind] for resource in kinds},
            **{resource: Store(parse, label=ours, clock=clock) for resource, parse in CHILDREN.items()},
            NODES: self._nodes,
        }
        self.synced = False

    def store(self, resource: Resource) -> Store[Any]:
        """The store of a kind."""
        return self._stores[resource]

    def owners(self) -> tuple[Key, ...]:
        """Keys of all custom resources."""
        return tuple(key for store in self._owners.values() for key in store.owners())

    def unfinished(self) -> tuple[Key, ...]:
        """Keys of the custom resources to which something may still happen."""
        stores = self._owners.values()
        return tuple(one.owner for store in stores for one in store.entries() if not one.finished)

    def owner(self, key: Key) -> OwnerView | None:
        """The custom resource of a key; None if it is gone, or its kind is not one of ours."""
        entry = self._entry(key)
        return entry.view() if entry else None

    def is_current(self, owner: OwnerView) -> bool:
        """Whether a custom resource is as it was when it was read."""
        entry = self._entry(owner.key)
        return entry is not None and entry.resource_version == owner.resource_version

    def asks_for_devices(self, key: Key) -> bool:
        """Whether the spec of a custom resource has an accelerator. One that is gone asks for none."""
        entry = self._entry(key)
        return entry is not None and entry.accelerated

    def is_judged(self, key: Key) -> bool:
        """Whether the status of a custom resource says anything yet. One that is gone counts as judged."""
        entry = self._entry(key)
        return entry is None or entry.judged

    def has_let_go(self, place: Place) -> bool:
        """Whether a pod of ours holds nothing any more: it ended, or its deletion was reported."""
        pods = self._stores[PODS]
        pod = pods.get(place)
        return bool(pod.ended) if pod else pods.is_gone(place)

    def named(self, resource: Resource, key: Key) -> Identity | None:
        """The child of a kind that has the name of the custom resource, whatever owns it."""
        found: Identity | None = self._stores[resource].get(Place(key.namespace, key.name))
        return found

    def owned(self, resource: Resource, key: Key) -> tuple[Any, ...]:
        """Children of a kind that belong to a custom resource, or to a predecessor of its name."""
        return self._stores[resource].by_owner(key)

    def nodes(self) -> tuple[NodeView, ...]:
        """All nodes; none where they are not watched."""
        return self._nodes.views()

    def remember(self, resource: Resource, obj: Object) -> Identity | None:
        """Take an object as the API server returned it to a write or read; gives its view.

        None for nodes and custom resources, which belong to no custom resource.
        """
        view = self.store(resource).remember(obj)
        return view if isinstance(view, Identity) else None

    def _entry(self, key: Key) -> CachedOwner | None:
        store = self._owners.get(key.kind)
        return store.get(Place(key.namespace, key.name)) if store else None
