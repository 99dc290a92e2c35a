"""What the cluster has for a new pod of a rollout. Pure."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from serval_operator.api.placement import Placement
from serval_operator.cluster.capacity import Supply
from serval_operator.cluster.node_fit import could_take


@dataclass(frozen=True, slots=True)
class Room:
    """Room for a new pod.

    Parameters
    ----------
    fits:
        How many more pods would find a free device now; None where that is not known, or none is asked for.
    nodes:
        Those nodes of old pods that could take a new pod in the place of an old one; None where that is not
        known.
    coming:
        Whether an autoscaler is adding a node for it.
    """

    fits: int | None = None
    nodes: AbstractSet[str] | None = None
    coming: bool = False

    def cures(self, node: str) -> bool:
        """Whether a new pod may get the place of an old one on this node; an empty name is of no node.

        An old pod without a node holds nothing, so it costs nothing to stop it.
        """
        return self.nodes is None or not node or node in self.nodes


def look_for_room(request: Placement, supply: Supply, fits: int | None, places: AbstractSet[str]) -> Room:
    """Room for a pod with this request.

    Parameters
    ----------
    fits:
        Of the capacity verdict.
    places:
        Nodes of old pods.
    """
    coming = bool(supply.growth.coming)
    if supply.nodes is None or request.resource_name in supply.claimable:
        # Numbers of nodes tell nothing of devices that claims allocate.
        return Room(fits, None, coming)
    usable = (node.name for node in supply.nodes if node.name in places and could_take(node, request))
    return Room(fits, frozenset(usable), coming)
