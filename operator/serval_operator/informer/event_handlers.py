"""Handlers of watched objects: record what was seen, enqueue who has to look again.

Only ``on.event`` handlers: kopf writes nothing to an object for those. They must not fail (kopf would only
log it), and must not wait: each object has its events handled one after another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import kopf

from serval_operator.api.naming import Key
from serval_operator.api.resources import Resource
from serval_operator.runtime.cache import Cache


def register(
    registry: kopf.OperatorRegistry,
    cache: Cache,
    kinds: Iterable[Resource],
    enqueue: Callable[[Key], None],
) -> None:
    """Register one handler for each watched kind."""
    for resource in kinds:
        _register(registry, resource, cache, enqueue)


def _register(
    registry: kopf.OperatorRegistry, resource: Resource, cache: Cache, enqueue: Callable[[Key], None]
) -> None:
    store = cache.store(resource)

    async def seen(event: kopf.RawEvent, **_: Any) -> None:
        for key in store.observe(event["type"], event["object"]):
            enqueue(key)

    kind = (resource.group, resource.version, resource.plural)
    watch = kopf.on.event(*kind, id=resource.plural, registry=registry)
    watch(seen)
