"""The objects that ask for devices, by resource: one index for all kinds.

An object is looked at again after each event about it, its Deployment or its pods. After a start each of them
is looked at before the first decision, so that no decision is made about a part of the queue.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from serval_operator.api.naming import Key
from serval_operator.api.resources import DEPLOYMENTS, PODS
from serval_operator.api.rivals import Claim, Outlook, Priorities, Rival, Rivals
from serval_operator.api.snapshots import DeploymentView, OwnerView
from serval_operator.cluster.priority_reader import PriorityReader
from serval_operator.config import Configuration
from serval_operator.runtime.cache import Cache
from serval_operator.turns.observing import counts_the_same, gone, lets_go, see_rival

Claims = Callable[[OwnerView, Configuration], Claim | None]
"""What an object of a kind asks of the queue; None for nothing. Total and pure."""

MOST_WOKEN = 100
"""Objects that are woken when a device may be free, the oldest first. The others look again by themselves."""


class Contest:
    """Knows all objects that ask for devices, and wakes those that wait.

    Parameters
    ----------
    claims:
        By kind, what its objects ask of the queue.
    always:
        Kinds whose objects may ask without `spec.accelerator`.
    wake:
        Enqueues a key.
    now:
        Aware UTC time.
    """

    def __init__(
        self,
        cache: Cache,
        claims: Mapping[str, Claims],
        configuration: Configuration,
        priorities: PriorityReader,
        wake: Callable[[Key], None],
        now: Callable[[], datetime],
        always: frozenset[str] = frozenset(),
    ) -> None:
        self._cache = cache
        self._claims = claims
        self._always = always
        self._configuration = configuration
        self._priorities = priorities
        self._wake = wake
        self._now = now
        self._known: dict[Key, Rival] = {}
        self._by_resource: dict[str, dict[Key, Rival]] = {}
        self._replacers: dict[str, dict[Key, Rival]] = {}
        self._changed: set[Key] = set()
        self._listed: dict[str, Rivals] = {}
        # What was derived from the objects of a resource, and the priorities that it was derived from.
        self._derived: dict[str, tuple[Priorities, dict[Any, Any]]] = {}

    def touch(self, key: Key) -> None:
        """Something about an object may have changed. Of one that asks for no devices, nothing is noted."""
        if key in self._known or key.kind in self._always or self._cache.asks_for_devices(key):
            self._changed.add(key)

    def outlook(self, key: Key) -> Outlook:
        """The turn of an object, as far as it is known without asking the cluster."""
        self.catch_up()
        own = self._known.get(key)
        if own is None:
            return Outlook()
        others = len(self._by_resource[own.claim.resource]) > 1
        waits = bool(own.homeless) or (own.made and own.asked < own.claim.wanted)
        return Outlook(own.is_short and (others or waits), self._replacer(own))

    async def rivals(self, resource_name: str) -> Rivals:
        """Return all objects that ask for a resource. Priorities are read if there are several."""
        rivals = self._by_resource.get(resource_name, {}).values()
        names = {one.claim.priority_class for one in rivals} - {""}
        several = len(rivals) > 1
        priorities = await self._priorities.priorities(names) if several else Priorities()
        self.catch_up()
        listed = self._listed.get(resource_name)
        if listed is None or listed.priorities != priorities:
            every = tuple(self._by_resource.get(resource_name, {}).values())
            known, memo = self._derived.get(resource_name, (None, {}))
            if known != priorities:
                memo = {}
            self._derived[resource_name] = priorities, memo
            listed = self._listed[resource_name] = Rivals(every, priorities, memo)
        return listed

    def _replacer(self, own: Rival) -> Key | None:
        """The object that took the place of this very generation, and still wants devices."""
        for key, one in self._replacers.get(own.uid, {}).items():
            if one.record and one.record.target_generation == own.generation and one.claim.wanted:
                return key
        return None

    def catch_up(self) -> None:
        """Look at all objects of which something may have changed, and wake those whose turn it may be."""
        while self._changed:
            key = self._changed.pop()
            before, after = self._known.get(key), self._look(key)
            if before == after:
                continue
            self._forget(before)
            self._note(after)
            for one in (before, after):
                if one and not counts_the_same(before, after):
                    self._derived.pop(one.claim.resource, None)
            if before and lets_go(before, after):
                self._wake_waiting(before.claim.resource, key)
            for one in (before, after):
                if one and one.record and (before and before.record) != (after and after.record):
                    self._wake(Key(one.record.kind, one.key.namespace, one.record.name))

    def _look(self, key: Key) -> Rival | None:
        owner = self._cache.owner(key)
        claim = self._claims[key.kind](owner, self._configuration) if owner and not owner.deleting else None
        before = self._known.get(key)
        pods = [pod for pod in self._cache.owned(PODS, key) if not pod.job]
        if owner is None or claim is None or not claim.resource:
            return gone(before, pods) if before else None
        found = self._cache.named(DEPLOYMENTS, key)
        deployment = found if isinstance(found, DeploymentView) and found.owner_uid == owner.uid else None
        seen = see_rival(owner, claim, deployment, pods, before.freed if before else None)
        lost = before is not None and not set(before.on_nodes) <= set(seen.on_nodes)
        return replace(seen, freed=self._now()) if lost else seen

    def _note(self, one: Rival | None) -> None:
        if one is None:
            return
        self._known[one.key] = one
        self._by_resource.setdefault(one.claim.resource, {})[one.key] = one
        self._listed.pop(one.claim.resource, None)
        if one.record:
            self._replacers.setdefault(one.record.uid, {})[one.key] = one

    def _forget(self, one: Rival | None) -> None:
        if one is None:
            return
        del self._known[one.key]
        self._listed.pop(one.claim.resource, None)
        _drop(self._by_resource, one.claim.resource, one.key)
        if one.record:
            _drop(self._replacers, one.record.uid, one.key)

    def _wake_waiting(self, resource_name: str, besides: Key) -> None:
        """Let those look again that wait for a resource."""
        rivals = self._by_resource.get(resource_name, {}).values()
        waiting = [one for one in rivals if one.is_short and one.key != besides]
        waiting.sort(key=lambda one: (one.created is None, one.created or 0, one.key))
        for one in waiting[:MOST_WOKEN]:
            self._wake(one.key)


def _drop(index: dict[str, dict[Key, Rival]], name: str, key: Key) -> None:
    del index[name][key]
    if not index[name]:
        del index[name]
