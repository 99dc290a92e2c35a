"""Whether a model in an image is mounted by the nodes, or fetched."""

from __future__ import annotations

from collections.abc import Sequence

from serval_operator.api.nodes import NodeView, mounts_images
from serval_operator.api.snapshots import RevisionView
from serval_operator.api.unstructured import mapping, mappings
from serval_operator.cluster.node_fit import missing_labels, untolerated
from serval_operator.workload.effective_spec import EffectiveSpec


def mounts_model(resolved: EffectiveSpec, kept: RevisionView | None, nodes: Sequence[NodeView]) -> bool:
    """Whether every node that may take a pod can mount an image as a volume: one that cannot refuses the pod.

    It is decided once for a revision. Nodes come and go, and what runs is not to be called outdated for it.

    Parameters
    ----------
    kept:
        The revision as it was recorded; None for a new one.
    nodes:
        All nodes; where none is known, fetching works everywhere.
    """
    if kept is not None:
        volumes = mappings(mapping(kept.template(), "spec"), "volumes")
        return any("image" in volume for volume in volumes)
    if resolved.model.ca_config_map_ref:
        # The nodes trust the authorities of their own configuration only.
        return False
    request = resolved.placement
    able = [
        mounts_images(node)
        for node in nodes
        if not missing_labels(node, request) and not untolerated(node, request)
    ]
    return bool(able) and all(able)
