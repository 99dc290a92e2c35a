"""Nodes, pods that hold devices, and requests, for tables of capacity verdicts."""

from __future__ import annotations

from typing import Any

from serval_operator.api.device_holders import PodHold
from serval_operator.api.naming import Key
from serval_operator.api.nodes import NodeView, parse_node
from serval_operator.api.placement import Placement
from serval_operator.cluster.capacity import CapacityVerdict, Growth, Supply, judge_capacity

BOARD = "example.com/board"
NAMESPACE = "vision"


def node(
    name: str = "n1",
    boards: int | None = 2,
    *,
    known: int | None = None,
    resource: str = BOARD,
    taints: tuple[tuple[str, str, str], ...] = (),
    labels: dict[str, str] | None = None,
    ready: bool = True,
    cordoned: bool = False,
    trouble: str = "",
) -> NodeView:
    """A node that offers so many boards and has ``known`` of them; None for one without an entry."""
    offered = {} if boards is None else {resource: str(boards)}
    capacity = offered if known is None else {resource: str(known)}
    conditions: list[dict[str, Any]] = [{"type": "Ready", "status": "True" if ready else "False"}]
    if trouble:
        conditions.append({"type": trouble, "status": "True", "message": "it is sick"})
    keys = ("key", "value", "effect")
    return parse_node(
        {
            "metadata": {"name": name, "labels": labels or {}},
            "spec": {
                "taints": [dict(zip(keys, one, strict=True)) for one in taints],
                "unschedulable": cordoned,
            },
            "status": {
                "allocatable": {"cpu": "4", **offered},
                "capacity": {"cpu": "4", **capacity},
                "conditions": conditions,
            },
        }
    )


def hold(
    count: int = 1,
    on: str = "n1",
    model: str = "other",
    namespace: str = NAMESPACE,
    *,
    ours: bool = True,
    deleting: bool = False,
) -> PodHold:
    """A pod that holds boards; not ``ours``, one that belongs to no ModelDeployment."""
    owner = Key("ModelDeployment", namespace, model) if ours else None
    return PodHold(namespace, f"{model}-pod", on, owner, {BOARD: count}, deleting)


def request(count: int = 1, resource: str = BOARD, **fields: Any) -> Placement:
    """What one pod asks for."""
    given = {"node_selector": {}, "tolerations": (), **fields}
    return Placement(resource, count, **given)


def judged(
    *nodes: NodeView,
    holds: tuple[PodHold, ...] | None = (),
    growth: Growth | None = None,
    hide: bool = False,
    claimable: frozenset[str] = frozenset(),
    **asked: Any,
) -> CapacityVerdict:
    """The verdict on a request in `NAMESPACE`."""
    supply = Supply(nodes, holds, growth or Growth(), claimable)
    return judge_capacity(request(**asked), supply, namespace=NAMESPACE, hide_foreign=hide)
