"""The capacity verdict: where a pod that asks for devices stands, and what would help it.

Pure: nodes, what pods hold of them, and what autoscalers say go in; one of the reasons of
`serval_operator.reasons.CAPACITY_REASONS`, or that a node is free, comes out. A message of the scheduler
cannot tell a resource that no one has from one that is in use; the nodes can.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from typing import TypeVar

from serval_operator.api.blocks.scheduling import REFUSE, WAIT
from serval_operator.api.device_holders import PodHold
from serval_operator.api.naming import Key
from serval_operator.api.nodes import NodeView
from serval_operator.api.placement import Placement
from serval_operator.cluster.node_fit import Fit, candidates, fit, missing_labels, trouble, untolerated
from serval_operator.reasons import (
    ACCELERATOR_BUSY,
    CAPACITY_UNKNOWN,
    DEVICE_NOT_READY,
    FITS,
    IMPOSSIBLE_REASONS,
    NO_NODE_OFFERS_RESOURCE,
    REQUEST_EXCEEDS_NODE,
    SCALE_UP_BLOCKED,
    SCALE_UP_PENDING,
    SELECTOR_MISMATCH,
    UNTOLERATED_TAINT,
)

POD = "Pod"
"""Kind of a holder that belongs to no object of ours."""
_HIDDEN = Key("", "", "")
_T = TypeVar("_T")
MOST_NAMED = 3
"""Nodes or holders that a message names; how many more there are is counted."""


@dataclass(frozen=True, slots=True)
class Growth:
    """What the operator knows of nodes to come, in words; each empty where nothing is known.

    Parameters
    ----------
    coming:
        Why a node is on its way.
    refused:
        What the autoscaler said when it added none for a pod that waits.
    possible:
        Why a node may appear, though none is on its way.
    autoscaled:
        Whether an autoscaler works in the cluster, for whichever nodes.
    """

    coming: str = ""
    refused: str = ""
    possible: str = ""
    autoscaled: bool = False


@dataclass(frozen=True, slots=True)
class Supply:
    """What there is of nodes and devices.

    Parameters
    ----------
    nodes:
        All nodes; None where the operator may not see them.
    holds:
        What pods hold of devices; None where no one counted.
    claimable:
        Extended resources that a DeviceClass serves: no node's numbers tell of those (dynamic resource
        allocation).
    late:
        Whether the count of what pods hold is on its way, and did not come in time.
    """

    nodes: Sequence[NodeView] | None
    holds: Sequence[PodHold] | None = None
    growth: Growth = Growth()
    claimable: AbstractSet[str] = frozenset()
    late: bool = False


@dataclass(frozen=True, slots=True)
class Holder:
    """What holds devices that a pod could have: an object of ours, else a pod. Without names if hidden.

    Parameters
    ----------
    terminating:
        Name of a pod of it that is being deleted and still holds some of them; empty for none.
    """

    kind: str
    namespace: str
    name: str
    node: str
    count: int
    terminating: str = ""

    def __str__(self) -> str:
        if not self.name:
            return f"{self.count} in other namespaces"
        stuck = f", its pod {self.terminating} is Terminating" if self.terminating else ""
        return f"{self.namespace}/{self.name} ({self.count} on {self.node}{stuck})"


@dataclass(frozen=True, slots=True)
class CapacityVerdict:
    """The answer.

    Parameters
    ----------
    reason:
        `FITS` or one of `CAPACITY_REASONS`.
    free:
        Units that are free on nodes that could take the pod; None where that is not known.
    fits:
        How many more pods would find a free device now; None where that is not known.
    holders:
        Who holds the devices of these nodes, those with most of them first.
    position:
        Place in the queue for them, from 1 on; 0 where none is known.
    """

    reason: str
    message: str
    free: int | None = None
    fits: int | None = None
    holders: tuple[Holder, ...] = ()
    position: int = 0


def judge_capacity(
    request: Placement, supply: Supply, *, namespace: str, hide_foreign: bool
) -> CapacityVerdict:
    """Say where a pod with this request stands.

    Parameters
    ----------
    namespace:
        Of the pod.
    hide_foreign:
        Whether holders in other namespaces are counted only, and not named.
    """
    if supply.nodes is None:
        return CapacityVerdict(CAPACITY_UNKNOWN, "the operator may not see the nodes of this cluster")
    ranked: dict[Fit, list[NodeView]] = {}
    for node in candidates(supply.nodes, request):
        ranked.setdefault(fit(node, request), []).append(node)
    only = namespace if hide_foreign else None
    sick = ranked.get(Fit.NOT_NOW)
    troubles = _troubles(sick, request, _stuck(request, supply, only)) if sick else ""
    if Fit.USABLE in ranked:
        verdict = _in_use(request, supply, ranked[Fit.USABLE], only)
        return _with_growth(supply.growth, troubles, verdict)
    if request.resource_name in supply.claimable:
        text = f"{request.resource_name} is allocated by a DeviceClass, of which nodes give no numbers"
        return CapacityVerdict(CAPACITY_UNKNOWN, text)
    return _absent(request, supply, ranked, troubles)


def refuses(request: Placement, verdict: CapacityVerdict) -> bool:
    """Whether no pod is to be made at all. Only to be asked while there is none.

    A node that exists and cannot take the pod at present is no reason: it may be well in a moment.
    """
    if request.when_unavailable == WAIT:
        return False
    hopeless = verdict.reason in IMPOSSIBLE_REASONS
    if request.when_unavailable == REFUSE:
        return hopeless or verdict.reason in (SCALE_UP_PENDING, SCALE_UP_BLOCKED)
    return hopeless


def _in_use(
    request: Placement, supply: Supply, usable: Sequence[NodeView], only: str | None
) -> CapacityVerdict:
    """Judge by what is in use on nodes that could take the pod."""
    if supply.holds is None:
        return CapacityVerdict(CAPACITY_UNKNOWN, f"{_nodes(usable)} could take it; what is free is not known")
    name = request.resource_name
    left = {node.name: node.allocatable.get(name, 0) for node in usable}
    holding = [hold for hold in supply.holds if hold.node in left and hold.amounts.get(name)]
    for hold in holding:
        left[hold.node] = max(left[hold.node] - hold.amounts[name], 0)
    free = sum(left.values())
    fits = sum(count // request.count for count in left.values())
    holders = _holders(holding, name, only)
    if fits:
        best = max(left, key=lambda node: (left[node], node))
        return CapacityVerdict(FITS, f"{best} has {left[best]} {name} free", free, fits, holders)
    where = f"{free} of {sum(node.allocatable.get(name, 0) for node in usable)} {name} free"
    if free:
        where += f", at most {max(left.values())} on one node"
    text = f"no node has {request} free ({where})"
    held = f"{text}; held by {_few(holders, str)}" if holders else text
    return CapacityVerdict(ACCELERATOR_BUSY, held, free, 0, holders)


def _with_growth(growth: Growth, troubles: str, verdict: CapacityVerdict) -> CapacityVerdict:
    """A verdict on busy nodes, with what else could help.

    Parameters
    ----------
    troubles:
        What keeps other nodes from taking the pod now; empty for none.
    """
    if verdict.reason != ACCELERATOR_BUSY:
        return verdict
    text = f"{verdict.message}; {troubles}" if troubles else verdict.message
    reason = ACCELERATOR_BUSY
    if growth.coming:
        reason, text = SCALE_UP_PENDING, f"{growth.coming}; until then {text}"
    elif growth.refused:
        text = f"{text}; {growth.refused}"
    return CapacityVerdict(reason, text, verdict.free, verdict.fits, verdict.holders)


def _absent(
    request: Placement, supply: Supply, ranked: dict[Fit, list[NodeView]], troubles: str
) -> CapacityVerdict:
    """No node could take the pod, no matter what is used: the nearest miss is named."""
    growth = supply.growth
    if growth.coming:
        return CapacityVerdict(SCALE_UP_PENDING, growth.coming, 0, 0)
    if troubles:
        return CapacityVerdict(DEVICE_NOT_READY, troubles, 0, 0)
    reason, text = _nearest(request, ranked, supply.nodes or ())
    may = "the accelerator profile says that nodes for it may be added" if request.scalable else ""
    may = may or growth.possible
    if growth.refused:
        # No one knows the nodes that could come as well as the one who would add them.
        return CapacityVerdict(SCALE_UP_BLOCKED if may else reason, f"{text}; {growth.refused}", 0, 0)
    if may:
        return CapacityVerdict(SCALE_UP_PENDING, f"{text}; {may}", 0, 0)
    return CapacityVerdict(reason, text, 0, 0)


def _nearest(
    request: Placement, ranked: dict[Fit, list[NodeView]], nodes: Sequence[NodeView]
) -> tuple[str, str]:
    """What keeps the nodes away that come nearest to the request."""
    if Fit.TAINTED in ranked:
        each = _named(
            ranked[Fit.TAINTED],
            lambda node: f"{node.name} has {', '.join(map(str, untolerated(node, request)))}",
        )
        return UNTOLERATED_TAINT, f"the pod does not tolerate taints of nodes with the device: {each}"
    if Fit.UNSELECTED in ranked:
        each = _named(ranked[Fit.UNSELECTED], lambda node: _labels(node, request))
        asked = ", ".join(f"{name}={' or '.join(values)}" for name, values in request.labels)
        return SELECTOR_MISMATCH, f"the pod asks for {asked}; {each}"
    if Fit.SMALL in ranked:
        name = request.resource_name
        sizes = {one.name: _size(one, name) for one in ranked[Fit.SMALL]}
        largest = min(sizes, key=lambda node: (-sizes[node], node))
        text = f"one pod asks for {request}, and the largest node, {largest}, has {sizes[largest]}"
        return REQUEST_EXCEEDS_NODE, text
    offers = Counter(name for node in nodes for name, count in node.allocatable.items() if count)
    known = _few(sorted(offers.items()), lambda offer: f"{offer[0]} ({_count(offer[1], 'node')})")
    rest = f"nodes offer {known}" if offers else f"{_count(len(nodes), 'node')} looked at"
    return NO_NODE_OFFERS_RESOURCE, f"no node offers {request.resource_name}; {rest}"


def _size(node: NodeView, resource: str) -> int:
    return max(node.capacity.get(resource, 0), node.allocatable.get(resource, 0))


def _labels(node: NodeView, request: Placement) -> str:
    """What a node says where the pod asks for something else."""
    has = (
        f"{name}={node.labels[name]}" if name in node.labels else f"no {name}"
        for name in missing_labels(node, request)
    )
    return f"{node.name} has {', '.join(has)}"


def _holders(holding: Iterable[PodHold], resource: str, only: str | None) -> tuple[Holder, ...]:
    """Who holds how much; those outside the namespace ``only``, where it is given, without names."""
    held: Counter[tuple[Key, str]] = Counter()
    stuck: dict[tuple[Key, str], str] = {}
    for hold in sorted(holding, key=lambda one: one.name):
        hidden = only is not None and hold.namespace != only
        who = _HIDDEN if hidden else hold.owner or Key(POD, hold.namespace, hold.name)
        where = "" if hidden else hold.node
        held[who, where] += hold.amounts[resource]
        if hold.deleting and not hidden:
            stuck.setdefault((who, where), hold.name)
    ordered = sorted(held.items(), key=lambda entry: (-entry[1], entry[0]))
    return tuple(Holder(*who, node, count, stuck.get((who, node), "")) for (who, node), count in ordered)


def _stuck(request: Placement, supply: Supply, only: str | None) -> dict[str, str]:
    """By node: pods that still hold its devices and are being deleted, in words.

    A pod on a lost node stays in Terminating until the node comes back or is deleted.
    """
    name = request.resource_name
    found: dict[str, list[str]] = {}
    for hold in supply.holds or ():
        if hold.deleting and hold.amounts.get(name) and only in (None, hold.namespace):
            found.setdefault(hold.node, []).append(f"{hold.namespace}/{hold.name}")
    return {node: f" (in Terminating there: {_few(sorted(pods), str)})" for node, pods in found.items()}


def _nodes(nodes: Sequence[NodeView]) -> str:
    return _named(nodes, attrgetter("name"))


def _troubles(nodes: Sequence[NodeView], request: Placement, stuck: Mapping[str, str]) -> str:
    """Why nodes cannot take the pod now.

    Parameters
    ----------
    stuck:
        By name of a node, what to say of pods that do not end there.
    """
    return _named(nodes, lambda node: trouble(node, request) + stuck.get(node.name, ""))


def _named(nodes: Sequence[NodeView], words: Callable[[NodeView], str]) -> str:
    """The first nodes by name, in words, and how many more there are."""
    return _few(heapq.nsmallest(MOST_NAMED, nodes, key=attrgetter("name")), words, len(nodes))


def _few(found: Collection[_T], words: Callable[[_T], str], count: int | None = None) -> str:
    """The first of what was found, in words, and how many more there are.

    Parameters
    ----------
    count:
        How many there are, if not all of them are given.
    """
    more = (len(found) if count is None else count) - MOST_NAMED
    return ", ".join(map(words, islice(found, MOST_NAMED))) + (f" and {more} more" if more > 0 else "")


def _count(number: int, what: str) -> str:
    return f"1 {what}" if number == 1 else f"{number} {what}s"
