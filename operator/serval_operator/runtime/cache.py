"""What the operator saw of the cluster, trimmed to what planning needs.

Each watched kind has a store (`store.py`). What is read here may be behind the cluster: whoever is about to
delete something reads it live.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from serval_operator.api.cache_entry import KeptModel, keep_model
from serval_operator.api.naming import Key, Place
from serval_operator.api.nodes import NodeView
from serval_operator.api.resources import (
    AUTOSCALERS,
    CONTROLLER_REVISIONS,
    DEPLOYMENTS,
    DISRUPTION_BUDGETS,
    MODEL_DEPLOYMENTS,
    NODES,
    PODS,
    SERVICES,
    Resource,
)
from serval_operator.api.snapshots import (
    AutoscalerView,
    DeploymentView,
    DisruptionView,
    Identity,
    ModelView,
    PodView,
    RevisionView,
    ServiceView,
    parse_autoscaler,
    parse_deployment,
    parse_disruption,
    parse_pod,
    parse_revision,
    parse_service,
)
from serval_operator.constants import CHILD_SELECTOR, LABEL_MANAGED_BY, MANAGED_BY, MODEL_DEPLOYMENT
from serval_operator.runtime.kube_api import Object
from serval_operator.runtime.node_store import NodeStore
from serval_operator.runtime.store import Store

SELECTORS: Mapping[Resource, str] = {
    MODEL_DEPLOYMENTS: "",
    CONTROLLER_REVISIONS: CHILD_SELECTOR,
    DEPLOYMENTS: CHILD_SELECTOR,
    SERVICES: CHILD_SELECTOR,
    AUTOSCALERS: CHILD_SELECTOR,
    DISRUPTION_BUDGETS: CHILD_SELECTOR,
    PODS: CHILD_SELECTOR,
    NODES: "",
}
"""The kinds that can be watched, and the label selector that each is listed and watched with."""


def watched(*, nodes: bool) -> tuple[Resource, ...]:
    """The kinds that are watched.

    Parameters
    ----------
    nodes:
        Whether the operator may watch nodes.
    """
    return tuple(kind for kind in SELECTORS if nodes or kind != NODES)


class Cache:
    """One store per kind.

    Parameters
    ----------
    on_nodes_changed:
        Called when a node came, went, or offers something else.
    clock:
        Monotonic seconds.

    Attributes
    ----------
    synced:
        Whether each store was filled by a complete listing.
    """

    def __init__(
        self,
        on_nodes_changed: Callable[[], None] = lambda: None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        ours = (LABEL_MANAGED_BY, MANAGED_BY)
        self.models: Store[KeptModel] = Store(keep_model, clock=clock)
        self._deployments: Store[DeploymentView] = Store(parse_deployment, label=ours, clock=clock)
        self._services: Store[ServiceView] = Store(parse_service, label=ours, clock=clock)
        self._pods: Store[PodView] = Store(parse_pod, label=ours, clock=clock)
        self._revisions: Store[RevisionView] = Store(parse_revision, label=ours, clock=clock)
        self._autoscalers: Store[AutoscalerView] = Store(parse_autoscaler, label=ours, clock=clock)
        self._disruptions: Store[DisruptionView] = Store(parse_disruption, label=ours, clock=clock)
        self._nodes = NodeStore(on_nodes_changed, clock=clock)
        self._stores: dict[Resource, Store[Any]] = {
            MODEL_DEPLOYMENTS: self.models,
            CONTROLLER_REVISIONS: self._revisions,
            DEPLOYMENTS: self._deployments,
            SERVICES: self._services,
            AUTOSCALERS: self._autoscalers,
            DISRUPTION_BUDGETS: self._disruptions,
            PODS: self._pods,
            NODES: self._nodes,
        }
        self.synced = False

    def store(self, resource: Resource) -> Store[Any]:
        """The store of a kind."""
        return self._stores[resource]

    def model(self, key: Key) -> ModelView | None:
        """The ModelDeployment of a key."""
        kept = self.models.get(_place(key)) if key.kind == MODEL_DEPLOYMENT else None
        return kept.view() if kept else None

    def deployment(self, key: Key) -> DeploymentView | None:
        """The Deployment of a key's name, whatever owns it."""
        return self._deployments.get(_place(key))

    def services(self, key: Key) -> tuple[ServiceView, ...]:
        """Services that belong to the object of a key."""
        return self._services.by_owner(key)

    def pods(self, key: Key) -> tuple[PodView, ...]:
        """Pods that belong to the object of a key, and to predecessors of its name."""
        return self._pods.by_owner(key)

    def revisions(self, key: Key) -> tuple[RevisionView, ...]:
        """Revisions that belong to the object of a key, and to predecessors of its name."""
        return self._revisions.by_owner(key)

    def autoscaler(self, key: Key) -> AutoscalerView | None:
        """The HorizontalPodAutoscaler of a key's name, whatever owns it."""
        return self._autoscalers.get(_place(key))

    def disruption(self, key: Key) -> DisruptionView | None:
        """The PodDisruptionBudget of a key's name, whatever owns it."""
        return self._disruptions.get(_place(key))

    def nodes(self) -> tuple[NodeView, ...]:
        """All nodes; none where they are not watched."""
        return self._nodes.views()

    def remember(self, resource: Resource, obj: Object) -> Identity | None:
        """Take an object as the API server returned it to a write or read; gives its view.

        None for nodes and ModelDeployments, of which none belongs to a ModelDeployment.
        """
        view = self.store(resource).remember(obj)
        return view if isinstance(view, Identity) else None


def _place(key: Key) -> Place:
    """Where the children lie that have the name of their owner."""
    return Place(key.namespace, key.name)
