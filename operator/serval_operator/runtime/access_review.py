"""What the operator may see beyond its own objects: asked at the start, and again every few minutes.

An installation for some namespaces sees neither nodes nor the pods of others. Then the operator does without,
and says so where it matters.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from serval_operator.api.resources import (
    ACCESS_REVIEWS,
    CONFIG_MAPS,
    DEVICE_CLASSES,
    NODE_CLAIMS,
    NODES,
    PODS,
    PRIORITY_CLASSES,
    Resource,
)
from serval_operator.constants import AUTOSCALER_NAMESPACE, AUTOSCALER_STATUS
from serval_operator.errors import KubeError
from serval_operator.runtime.kube_api import KubeApi

REVIEW_SECONDS = 300.0
"""About this often it is asked again."""
LEAST_SECONDS = 10.0
"""Least time between two reviews, however often something is refused."""

_log = logging.getLogger(__name__)


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
    priority_classes:
        PriorityClasses may be listed.
    """

    nodes: bool = False
    pods: bool = False
    autoscaler: bool = False
    node_claims: bool = False
    device_classes: bool = False
    priority_classes: bool = False


class AccessReviewer:
    """Keeps what may be read up to date.

    Parameters
    ----------
    access:
        What was found at the start.
    on_change:
        Called after each change with what may be read now.

    Attributes
    ----------
    access:
        What may be read, as found last.
    """

    def __init__(
        self,
        api: KubeApi,
        access: Access,
        on_change: Callable[[Access], None],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._api = api
        self._on_change = on_change
        self._sleep = sleep
        self._asked = asyncio.Event()
        self.access = access

    def ask_soon(self) -> None:
        """Something was refused: ask again soon."""
        self._asked.set()

    async def run(self) -> None:
        """Ask again and again, until cancelled. An answer counts until the next one."""
        while True:
            await self._sleep(LEAST_SECONDS)
            await self._until_due()
            try:
                access = await review(self._api)
            except KubeError as error:
                _log.warning("what may be read cannot be reviewed, will ask again: %s", error)
                self.ask_soon()
                continue
            if access != self.access:
                _log.info("the operator's permissions changed: %s", access)
                self.access = access
                self._on_change(access)

    async def _until_due(self) -> None:
        spread = random.uniform(0.9, 1.1)  # noqa: S311 - no secret
        regular = asyncio.ensure_future(self._sleep(REVIEW_SECONDS * spread))
        asked = asyncio.ensure_future(self._asked.wait())
        try:
            await asyncio.wait((regular, asked), return_when=asyncio.FIRST_COMPLETED)
        finally:
            regular.cancel()
            asked.cancel()
        self._asked.clear()


async def review(api: KubeApi) -> Access:
    """Ask the API server.

    Raises
    ------
    KubeError
        It did not answer. Whoever may do nothing may still ask what he may do.
    """
    lists, watches, pods, autoscaler, claims, classes, priorities = await asyncio.gather(
        _may(api, "list", NODES),
        _may(api, "watch", NODES),
        _may(api, "list", PODS),
        _may(api, "get", CONFIG_MAPS, AUTOSCALER_NAMESPACE, AUTOSCALER_STATUS),
        _may(api, "list", NODE_CLAIMS),
        _may(api, "list", DEVICE_CLASSES),
        _may(api, "list", PRIORITY_CLASSES),
    )
    return Access(
        nodes=lists and watches,
        pods=pods,
        autoscaler=autoscaler,
        node_claims=claims,
        device_classes=classes,
        priority_classes=priorities,
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
