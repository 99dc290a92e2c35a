"""What the operator may see beyond its own objects: asked once, at the start.

An installation for some namespaces sees neither nodes nor the pods of others. Then the operator does without,
and says so where it matters.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from serval_operator.api.resources import (
    ACCESS_REVIEWS,
    CONFIG_MAPS,
    DEVICE_CLASSES,
    NODE_CLAIMS,
    NODES,
    PODS,
    Resource,
)
from serval_operator.constants import AUTOSCALER_NAMESPACE, AUTOSCALER_STATUS
from serval_operator.runtime.kube_api import KubeApi


@dataclass(frozen=True, slots=True)
class Access:
    """What may be read.

    Parameters
    ----------
    nodes:
        Nodes may be listed and watched.
    pods:
        The pods of all namespaces may be listed.
    autoscaler:
        The status that the cluster autoscaler publishes may be read.
    node_claims:
        Karpenter's node claims may be listed, where there are any.
    device_classes:
        Classes of dynamic resource allocation may be listed, where there are any.
    """

    nodes: bool = False
    pods: bool = False
    autoscaler: bool = False
    node_claims: bool = False
    device_classes: bool = False


async def review(api: KubeApi) -> Access:
    """Ask the API server.

    Raises
    ------
    KubeError
        It did not answer. Whoever may do nothing may still ask what he may do.
    """
    lists, watches, pods, autoscaler, claims, classes = await asyncio.gather(
        _may(api, "list", NODES),
        _may(api, "watch", NODES),
        _may(api, "list", PODS),
        _may(api, "get", CONFIG_MAPS, AUTOSCALER_NAMESPACE, AUTOSCALER_STATUS),
        _may(api, "list", NODE_CLAIMS),
        _may(api, "list", DEVICE_CLASSES),
    )
    return Access(
        nodes=lists and watches,
        pods=pods,
        autoscaler=autoscaler,
        node_claims=claims,
        device_classes=classes,
    )


async def _may(api: KubeApi, verb: str, resource: Resource, namespace: str = "", name: str = "") -> bool:
    """Whether something is allowed; without a namespace, in all of them."""
    asked = {"verb": verb, "group": resource.group, "resource": resource.plural}
    asked |= {field: value for field, value in (("namespace", namespace), ("name", name)) if value}
    answer: dict[str, Any] = await api.create(
        ACCESS_REVIEWS,
        {
            "apiVersion": ACCESS_REVIEWS.api_version,
            "kind": ACCESS_REVIEWS.kind,
            "spec": {"resourceAttributes": asked},
        },
    )
    return (answer.get("status") or {}).get("allowed") is True
