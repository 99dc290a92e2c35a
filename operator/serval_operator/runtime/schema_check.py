"""Compares the CRDs of the cluster with the fields that the operator knows."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from serval_operator.api.crd_comparison import missing_fields, served_schema
from serval_operator.api.resources import Resource
from serval_operator.api.schema import Schema
from serval_operator.errors import KubeError
from serval_operator.runtime.availability import Availability
from serval_operator.runtime.client import KubeClient

CHECK_SECONDS = 300.0
FIRST_PAUSE = 2.0
LONGEST_PAUSE = 60.0
"""Seconds between two checks: usually, and bounds while a CRD is older than the operator."""
LIMIT_SECONDS = 5.0
"""Limit of reading the schemas. A start waits for it."""
FRESH_SECONDS = 2.0
"""A check of a kind is not repeated within this time: its namespaces come on together."""

_log = logging.getLogger(__name__)


class SchemaCheck:
    """Finds out which kinds' CRDs are older than the operator.

    Where that cannot be found out, a kind counts as new enough.

    Parameters
    ----------
    ours:
        By kind, ``openAPIV3Schema`` of its CRD as the operator knows it.
    availability:
        Told what the cluster's CRDs lack.
    """

    def __init__(
        self,
        reader: KubeClient,
        ours: Mapping[Resource, Schema],
        availability: Availability,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader = reader
        self._ours = dict(ours)
        self._availability = availability
        self._sleep = sleep
        self._clock = clock
        self._locks = {resource: asyncio.Lock() for resource in ours}
        self._checked: dict[Resource, float] = {}
        self._unknown = set(ours)

    async def check(self, resource: Resource) -> None:
        """Compare one kind, unless that was just done. Without a schema, nothing changes."""
        async with self._locks[resource]:
            if self._clock() - self._checked.get(resource, -FRESH_SECONDS) < FRESH_SECONDS:
                return
            served = await self._served(resource)
            self._checked[resource] = self._clock()
            if served is not None:
                self._unknown.discard(resource)
                self._availability.schema(resource, missing_fields(self._ours[resource], served))

    async def run(self) -> None:
        """Compare all kinds every few minutes; more often while a CRD is older or unknown."""
        pause = FIRST_PAUSE
        while True:
            if self._availability.outdated():
                pause = min(pause, LONGEST_PAUSE)
            elif not self._unknown:
                pause = CHECK_SECONDS
            await self._sleep(pause)
            pause = FIRST_PAUSE if pause == CHECK_SECONDS else min(2 * pause, CHECK_SECONDS)
            for resource in self._ours:
                await self.check(resource)

    async def _served(self, resource: Resource) -> Mapping[str, Any] | None:
        """Read the cluster's schema of a kind; None if it cannot be read."""
        try:
            async with asyncio.timeout(LIMIT_SECONDS):
                schemas = await self._reader.schemas(resource.group, resource.version)
        except (KubeError, TimeoutError) as error:
            _log.info("the schema of %s cannot be read: %s", resource.plural, error)
            return None
        return served_schema(schemas, resource.group, resource.version, resource.kind)
