"""Whether one node could take a pod, and if not, why not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from functools import lru_cache
from typing import Any, Final

from serval_operator.api.nodes import NodeView, Taint
from serval_operator.api.placement import Placement

_STATE_TAINTS: Final = ("node.kubernetes.io/", "node.cloudprovider.kubernetes.io/")
"""Taints by which Kubernetes itself marks the state of a node: cordoned, not ready, not initialized
yet, out of disk, memory or process ids, shut down. They go with the state."""
_HARD: Final = ("NoSchedule", "NoExecute")
_CORDONED: Final = Taint("node.kubernetes.io/unschedulable", "", "NoSchedule")
"""What the scheduler takes ``spec.unschedulable`` for."""
_ADDED: Final = tuple(
    {"key": f"node.kubernetes.io/{state}", "operator": "Exists", "effect": "NoExecute"}
    for state in ("not-ready", "unreachable")
)
"""Tolerations that the API server adds to every pod (admission plugin DefaultTolerationSeconds). The one for
memory-pressure comes from a plugin that is off by default (PodTolerationRestriction): it does not count."""

_INSTANCE_TYPE: Final = "node.kubernetes.io/instance-type"
_NVIDIA: Final = (
    ("kubernetes.azure.com/accelerator", "nvidia"),
    ("accelerator", "nvidia"),
    ("nvidia.com/gpu.present", "true"),
    ("feature.node.kubernetes.io/pci-10de.present", "true"),
)
_AMD: Final = (("kubernetes.azure.com/accelerator", "amd"), ("accelerator", "amd"))
_SIGNS: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {"nvidia.com/": _NVIDIA, "amd.com/gpu": _AMD}
"""Labels of nodes that have a device, by the beginning of its resource's name: AKS, GPU and node feature
discovery."""
_MACHINES: Final[Mapping[str, tuple[str, ...]]] = {
    "nvidia.com/": ("Standard_NC", "Standard_ND"),
    "amd.com/xilinx": ("Standard_NP",),
    "xilinx.com/": ("Standard_NP",),
}
"""Beginnings of the names of Azure's machines that have a device: GPUs, and Alveo U250 boards."""
_AMD_MACHINE: Final = "MI300X"
"""Part of the names of machines of the ND series whose GPUs are AMD's."""


_MOST_MACHINES: Final = 4096
"""Pairs of a machine type and a resource whose answer is kept. A cluster has few of them."""


class Fit(Enum):
    """How a node stands to a request, whatever is in use now."""

    USABLE = "could take the pod, if its devices were free"
    NOT_NOW = "is meant to take it, but cannot at present"
    TAINTED = "has the devices and a taint that the pod does not tolerate"
    UNSELECTED = "has the devices, and not the labels that are asked for"
    SMALL = "has fewer devices than one pod asks for"
    FOREIGN = "has no such device"


def candidates(nodes: Iterable[NodeView], request: Placement) -> list[NodeView]:
    """The nodes that are worth a closer look; each of the others is `Fit.FOREIGN`.

    This is the only step of a verdict that touches each node of the cluster, so it is kept cheap.
    """
    name = request.resource_name
    signs, machines = _promises(name)
    if not signs and not machines:
        return [node for node in nodes if name in node.allocatable or name in node.capacity]
    return [
        node
        for node in nodes
        if name in node.allocatable
        or name in node.capacity
        or not node.labels.keys().isdisjoint(signs)
        or _is_machine(node.labels.get(_INSTANCE_TYPE, ""), name)
    ]


def fit(node: NodeView, request: Placement) -> Fit:
    """Judge one node."""
    size = max(node.allocatable.get(request.resource_name, 0), node.capacity.get(request.resource_name, 0))
    if not _has_device(node, request):
        return Fit.FOREIGN
    if 0 < size < request.count:
        return Fit.SMALL
    if request.labels and missing_labels(node, request):
        return Fit.UNSELECTED
    if node.taints and untolerated(node, request):
        return Fit.TAINTED
    offered = node.allocatable.get(request.resource_name, 0)
    if not _takes_pods(node, request) or offered < request.count:
        return Fit.NOT_NOW
    return Fit.USABLE


def could_take(node: NodeView, request: Placement) -> bool:
    """Whether a node could take a pod now, if what the pod asks for were free on it."""
    if request.resource_name:
        return fit(node, request) is Fit.USABLE
    return not (missing_labels(node, request) or untolerated(node, request)) and _takes_pods(node, request)


def _takes_pods(node: NodeView, request: Placement) -> bool:
    """Whether the state of a node lets a pod start on it now."""
    return node.ready and not node.deleting and not _states(node, request)


def _states(node: NodeView, request: Placement) -> list[Taint]:
    """Hard taints that mark the node's state and that the pod does not tolerate."""
    marked = [one for one in node.taints if one.effect in _HARD and one.key.startswith(_STATE_TAINTS)]
    if node.cordoned and _CORDONED not in marked:
        marked.append(_CORDONED)
    tolerations = (*request.tolerations, *_ADDED)
    return [taint for taint in marked if not any(_tolerates(one, taint) for one in tolerations)]


def missing_labels(node: NodeView, request: Placement) -> list[str]:
    """Names of the labels that are asked for and that the node lacks or has with another value."""
    return sorted({name for name, values in request.labels if node.labels.get(name) not in values})


def untolerated(node: NodeView, request: Placement) -> list[Taint]:
    """Taints that keep the pod away; not those by which Kubernetes marks a node's state."""
    hard = (taint for taint in node.taints if taint.effect in _HARD)
    lasting = (taint for taint in hard if not taint.key.startswith(_STATE_TAINTS))
    return [taint for taint in lasting if not any(_tolerates(one, taint) for one in request.tolerations)]


def trouble(node: NodeView, request: Placement) -> str:
    """Why a node that is `Fit.NOT_NOW` cannot take the pod, in words."""
    told = "".join(f"; {one.type}: {one.message}" for one in node.troubles)
    if node.deleting:
        return f"{node.name} is being removed"
    if not node.ready:
        return f"{node.name} is not ready{told}"
    states = _states(node, request)
    if _CORDONED in states:
        return f"{node.name} is cordoned"
    if states:
        return f"{node.name} has {', '.join(map(str, states))}"
    offered = node.allocatable.get(request.resource_name, 0)
    known = node.capacity.get(request.resource_name, 0)
    if known > offered:
        return f"{node.name} offers {offered} of its {known} {request.resource_name}{told}"
    return (
        f"{node.name} should have {request.resource_name} and its device plugin or driver offers none{told}"
    )


def _has_device(node: NodeView, request: Placement) -> bool:
    """Whether a node has, or should have, such devices.

    A device plugin that stopped leaves an entry of 0 behind; where none ever ran, only labels tell. A plugin
    that offers other devices of the same maker does run.
    """
    name = request.resource_name
    if name in node.allocatable or name in node.capacity:
        return True
    maker = name.partition("/")[0] + "/"
    known = (*node.allocatable, *node.capacity)
    return _is_labelled(node, name) and not any(one.startswith(maker) for one in known)


def _is_labelled(node: NodeView, resource: str) -> bool:
    machine = node.labels.get(_INSTANCE_TYPE, "")
    if _AMD_MACHINE in machine:
        return _is_machine(machine, resource)
    signs, _ = _promises(resource)
    signed = any(node.labels.get(label) in values for label, values in signs.items())
    return signed or _is_machine(machine, resource)


@lru_cache(maxsize=_MOST_MACHINES)
def _is_machine(machine: str, resource: str) -> bool:
    """Whether machines of a type have a device."""
    if _AMD_MACHINE in machine:
        return resource.startswith("amd.com/gpu")
    return machine.startswith(_promises(resource)[1])


@lru_cache(maxsize=_MOST_MACHINES)
def _promises(resource: str) -> tuple[Mapping[str, frozenset[str]], tuple[str, ...]]:
    """What promises a device: labels, each with its values, and beginnings of the names of machines."""
    signs: dict[str, frozenset[str]] = {}
    for start, pairs in _SIGNS.items():
        for label, value in pairs if resource.startswith(start) else ():
            signs[label] = signs.get(label, frozenset()) | {value}
    machines = (one for start, many in _MACHINES.items() if resource.startswith(start) for one in many)
    return signs, tuple(machines)


def _tolerates(toleration: Mapping[str, Any], taint: Taint) -> bool:
    """As `ToleratesTaint` of Kubernetes: an empty key or effect stands for all of them."""
    key, effect = toleration.get("key") or "", toleration.get("effect") or ""
    if effect not in ("", taint.effect) or key not in ("", taint.key):
        return False
    if toleration.get("operator") == "Exists":
        return True
    return bool(key) and (toleration.get("value") or "") == taint.value
