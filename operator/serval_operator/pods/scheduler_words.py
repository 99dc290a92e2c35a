"""What the words of the scheduler tell of a pod that no node takes. Pure.

They are those of the plugins of Kubernetes 1.36 (``pkg/scheduler/framework/plugins``), with the number
of nodes before each: ``0/2 nodes are available: 1 Insufficient memory, 1 node(s) had untolerated taint(s).``
"""

from __future__ import annotations

import re
from typing import Final

_DEVICE: Final = re.compile(r"Insufficient [^\s,]+/[^\s,]+")
"""A missing extended resource (noderesources): its name holds a slash; `cpu` has none."""
_HELD_BY_PODS: Final = re.compile(
    r"Insufficient [^\s,]+"  # noderesources: cpu, memory, ephemeral-storage, huge pages, extended resources
    r"|Too many pods"  # noderesources
    r"|didn't have free ports for the requested pod ports"  # nodeports
    r"|didn't match pod anti-affinity rules"  # interpodaffinity
    r"|didn't satisfy existing pods anti-affinity rules"  # interpodaffinity
    r"|didn't match pod topology spread constraints(?! \(missing required label\))"  # podtopologyspread
    r"|exceed max volume count"  # nodevolumelimits
    r"|had no available disk"  # volumerestrictions
    r"|with ReadWriteOncePod access mode already in-use by another pod"  # volumerestrictions
    r"|cannot allocate all claims"  # dynamicresources
)
"""Reasons that end when another pod leaves a node. Selectors, affinity to nodes, taints, cordons, gates and
volumes that cannot be bound do not. The list has what helps, so that unknown words stop no pod."""


def lacks_device(words: str) -> bool:
    """Whether a node lacks an extended resource that the pod asks for."""
    return _DEVICE.search(words) is not None


def is_held_by_pods(words: str) -> bool:
    """Whether pods hold what the pod needs, so that it may get it when one of them leaves."""
    return _HELD_BY_PODS.search(words) is not None
