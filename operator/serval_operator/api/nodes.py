"""View of a node: what scheduling looks at, and what tells why a device is missing."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serval_operator.api.naming import Key
from serval_operator.api.quantities import extended
from serval_operator.api.text import scrub
from serval_operator.api.unstructured import condition, mapping, mappings

LONGEST_TROUBLE = 200
"""Characters kept of what a node says of a trouble."""
IMAGE_VOLUMES_KUBELET = (1, 35)
IMAGE_VOLUMES_CONTAINERD = (2, 1)
"""The least versions that mount an image as a volume without being told to."""

_READY = "Ready"
_STANDARD = frozenset({_READY, "MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable"})
_VERSION = re.compile(r"v?(\d{1,4})\.(\d{1,4})", re.ASCII)
_CONTAINERD = "containerd://"


@dataclass(frozen=True, slots=True)
class Taint:
    """A taint of a node."""

    key: str
    value: str
    effect: str

    def __str__(self) -> str:
        return f"{self.key}={self.value}:{self.effect}" if self.value else f"{self.key}:{self.effect}"


@dataclass(frozen=True, slots=True)
class Trouble:
    """A condition by which a node says that something of it is bad, such as ``GPUMissing``."""

    type: str
    message: str


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node.

    Parameters
    ----------
    allocatable, capacity:
        Extended resources only. A device plugin that stopped leaves an entry of 0 behind.
    cordoned:
        Whether it is marked as unschedulable.
    troubles:
        What problem detectors say of it.
    namespace, owner:
        A node has neither; they are what a store asks of every view.
    """

    name: str
    uid: str
    resource_version: str
    allocatable: Mapping[str, int]
    capacity: Mapping[str, int]
    labels: Mapping[str, str]
    taints: tuple[Taint, ...]
    ready: bool
    cordoned: bool
    deleting: bool
    kubelet_version: str
    runtime_version: str
    troubles: tuple[Trouble, ...] = ()
    namespace: str = ""
    owner: Key | None = None


Shape = tuple[Mapping[str, int], Mapping[str, str], frozenset[Taint], bool, bool, bool]
"""What of a node scheduling looks at."""


def parse_node(obj: Mapping[str, Any]) -> NodeView:
    """View of a node. Texts that many nodes share are kept once."""
    meta, spec, status = mapping(obj, "metadata"), mapping(obj, "spec"), mapping(obj, "status")
    info = mapping(status, "nodeInfo")
    return NodeView(
        name=str(meta.get("name", "")),
        uid=str(meta.get("uid", "")),
        resource_version=str(meta.get("resourceVersion", "")),
        allocatable=extended(mapping(status, "allocatable")),
        capacity=extended(mapping(status, "capacity")),
        labels={_shared(key): _shared(value) for key, value in mapping(meta, "labels").items()},
        taints=tuple(_taint(one) for one in mappings(spec, "taints")),
        ready=condition(status, _READY).get("status") == "True",
        cordoned=spec.get("unschedulable") is True,
        deleting=bool(meta.get("deletionTimestamp")),
        kubelet_version=_shared(info.get("kubeletVersion", "")),
        runtime_version=_shared(info.get("containerRuntimeVersion", "")),
        troubles=tuple(
            Trouble(_shared(one.get("type", "")), scrub(str(one.get("message", "")), LONGEST_TROUBLE))
            for one in mappings(status, "conditions")
            if _is_trouble(one)
        ),
    )


def shape(node: NodeView) -> Shape:
    """What of a node scheduling looks at.

    Two equal shapes tell that nobody who waits for a place has to look again, whatever else a kubelet
    reported.
    """
    return (
        node.allocatable,
        node.labels,
        frozenset(node.taints),
        node.ready,
        node.cordoned,
        node.deleting,
    )


def mounts_images(node: NodeView) -> bool:
    """Whether pods of a node can mount an image as a volume: an older part refuses the whole pod."""
    containerd = node.runtime_version.startswith(_CONTAINERD)
    runtime = node.runtime_version.removeprefix(_CONTAINERD) if containerd else ""
    kubelet = _version(node.kubelet_version)
    return kubelet >= IMAGE_VOLUMES_KUBELET and _version(runtime) >= IMAGE_VOLUMES_CONTAINERD


def _version(text: str) -> tuple[int, int]:
    match = _VERSION.match(text)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _taint(entry: Mapping[str, Any]) -> Taint:
    return Taint(*(_shared(entry.get(field, "")) for field in ("key", "value", "effect")))


def _is_trouble(entry: Mapping[str, Any]) -> bool:
    """Problem detectors say True for a problem; those that name what should be ready say False."""
    kind = str(entry.get("type", ""))
    bad = "False" if kind.endswith(_READY) else "True"
    return kind not in _STANDARD and entry.get("status") == bad


def _shared(value: object) -> str:
    return sys.intern(str(value))
