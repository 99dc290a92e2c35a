"""What a pod holds of its node's devices."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serval_operator.api.naming import Key
from serval_operator.api.quantities import extended
from serval_operator.api.snapshots import ENDED_PHASES
from serval_operator.api.unstructured import labelled_owner, mapping, mappings


@dataclass(frozen=True, slots=True)
class PodHold:
    """A pod that holds devices of a node.

    Parameters
    ----------
    owner:
        The custom resource of ours that it belongs to, or None.
    amounts:
        Extended resources and how many of each; none of them 0.
    deleting:
        Whether the pod is being deleted, and its node has not stopped it yet.
    """

    namespace: str
    name: str
    node: str
    owner: Key | None
    amounts: Mapping[str, int]
    deleting: bool = False


def parse_hold(obj: Mapping[str, Any]) -> PodHold | None:
    """What a pod holds; None if it has no node, has finished, or holds no extended resource.

    A pod that is being deleted holds its devices until its node has stopped it.
    """
    meta, spec = mapping(obj, "metadata"), mapping(obj, "spec")
    node = str(spec.get("nodeName", ""))
    if not node or mapping(obj, "status").get("phase") in ENDED_PHASES:
        return None
    amounts = _asked(spec)
    if not amounts:
        return None
    return PodHold(
        namespace=sys.intern(str(meta.get("namespace", ""))),
        name=str(meta.get("name", "")),
        node=sys.intern(node),
        owner=labelled_owner(meta),
        amounts=amounts,
        deleting=bool(meta.get("deletionTimestamp")),
    )


def _asked(spec: Mapping[str, Any]) -> dict[str, int]:
    """Extended resources that the scheduler counts for a pod.

    Its containers run together with the init containers that never end (sidecars). Before that, each other
    init container runs alone with the sidecars that were started before it. The larger of both counts, and
    on top of it what the sandbox itself takes.
    """
    sidecars: dict[str, int] = {}
    peak: dict[str, int] = {}
    for container in mappings(spec, "initContainers"):
        asked = _sum(sidecars, _amounts(container))
        if container.get("restartPolicy") == "Always":
            sidecars = asked
        peak = _larger(peak, asked)
    together = sidecars
    for container in mappings(spec, "containers"):
        together = _sum(together, _amounts(container))
    total = _sum(_larger(peak, together), extended(mapping(spec, "overhead")))
    return {name: count for name, count in total.items() if count}


def _amounts(container: Mapping[str, Any]) -> dict[str, int]:
    """A container's requests; of an extended resource the limit, which must be equal, counts as one."""
    resources = mapping(container, "resources")
    return extended({**mapping(resources, "limits"), **mapping(resources, "requests")})


def _sum(left: Mapping[str, int], right: Mapping[str, int]) -> dict[str, int]:
    return {name: left.get(name, 0) + right.get(name, 0) for name in _names(left, right)}


def _larger(left: Mapping[str, int], right: Mapping[str, int]) -> dict[str, int]:
    return {name: max(left.get(name, 0), right.get(name, 0)) for name in _names(left, right)}


def _names(left: Mapping[str, int], right: Mapping[str, int]) -> Sequence[str]:
    return tuple(dict.fromkeys([*left, *right]))
