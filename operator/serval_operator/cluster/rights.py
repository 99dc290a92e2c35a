"""Rights to read the capacity of the cluster: who holds devices, and where more can come from.

They are optional. Without them the verdict is that the capacity is unknown.
"""

from __future__ import annotations

from typing import Final

from serval_operator.api.resources import (
    CONFIG_MAPS,
    DEVICE_CLASSES,
    NODE_CLAIMS,
    NODES,
    PODS,
    PRIORITY_CLASSES,
)
from serval_operator.api.rights import Right
from serval_operator.constants import AUTOSCALER_NAMESPACE, AUTOSCALER_STATUS

CAPACITY_RIGHTS: Final = (
    Right(NODES, ("list", "watch"), "Labels, taints and devices decide which node can take a pod."),
    Right(
        PODS,
        ("list",),
        "Pods of all namespaces hold devices. They are listed only while a pod waits for a device, or when a "
        "rollout starts.",
    ),
    Right(NODE_CLAIMS, ("list",), "A NodeClaim of Karpenter shows that a node will be added."),
    Right(
        DEVICE_CLASSES,
        ("list",),
        "A DeviceClass shows that devices are allocated dynamically; nodes do not count such devices.",
    ),
    Right(
        PRIORITY_CLASSES,
        ("list",),
        "The value of a PriorityClass decides whose turn it is. They are listed only while objects wait for "
        "the same devices.",
    ),
)
AUTOSCALER_RIGHTS: Final = (
    Right(
        CONFIG_MAPS,
        ("get",),
        f"The cluster autoscaler writes the state of its node groups to it, in {AUTOSCALER_NAMESPACE}.",
        (AUTOSCALER_STATUS,),
    ),
)
