"""Brings the children to what they should be, with as few requests as that takes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection

from serval_operator.api.conditions import Blocked, problem
from serval_operator.api.naming import Key, Manifest
from serval_operator.api.resources import (
    SERVICES,
    Children,
    Resource,
)
from serval_operator.api.snapshots import ChildView, Identity, OwnerView
from serval_operator.constants import ANNOTATION_APPLIED
from serval_operator.errors import Forbidden, Invalid
from serval_operator.pods.observation import Observed
from serval_operator.reconcile.contests import Contests
from serval_operator.reconcile.together import Request
from serval_operator.runtime.cache import Cache
from serval_operator.runtime.drift import Action, conflict, decide
from serval_operator.runtime.field_owners import taken
from serval_operator.runtime.kube_api import KubeApi, Object

Done = set[tuple[str, str]]
"""Kind and name of objects about which something was sent."""
_log = logging.getLogger(__name__)


class Applier:
    """Applies what is due, and removes what is ours and not wanted any more."""

    def __init__(self, api: KubeApi, memory: Cache, clock: Callable[[], float]) -> None:
        self._api = api
        self._memory = memory
        self._contests = Contests(clock)
        self._settled: dict[Key, dict[str, str]] = {}

    def requests(
        self,
        model: OwnerView,
        children: Children,
        optional: Collection[Resource],
        observed: Observed,
        done: Done,
    ) -> list[Request]:
        """What applies what is due, and deletes what is not wanted any more.

        Parameters
        ----------
        optional:
            Kinds of which children that are not wanted any more are deleted.
        done:
            Takes what is applied or deleted.
        """
        requests = []
        for resource, manifest in children:
            slot = slot_of(resource, manifest)
            if not self._keeps(model, slot, manifest, observed.child(resource, manifest["metadata"]["name"])):
                work = self._bring(model, resource, manifest, observed, done)
                requests.append(Request(slot, work))
            elif told := self._contests.told(model.key, slot):
                requests.append(Request(slot, _say(told)))
        for resource, view in _surplus(model, children, optional, observed):
            requests.append(Request(f"{resource.kind}/{view.name}", self._remove(resource, view, done)))
        return requests

    def forget(self, key: Key) -> None:
        """Forget an object that is gone."""
        self._settled.pop(key, None)
        self._contests.forget(key)

    def _keeps(self, model: OwnerView, slot: str, manifest: Manifest, known: ChildView | None) -> bool:
        """Whether a child is ours and as it should be."""
        if known is None or conflict(model, slot, known):
            return False
        settled = self._settled.setdefault(model.key, {})
        if decide(manifest, known, settled.get(slot)) is not Action.KEEP:
            return False
        settled[slot] = known.ownership
        return True

    async def _bring(
        self, model: OwnerView, resource: Resource, manifest: Manifest, observed: Observed, done: Done
    ) -> Blocked | None:
        """Bring a child to what it should be."""
        name, slot = manifest["metadata"]["name"], slot_of(resource, manifest)
        known = observed.child(resource, name)
        seen = known or await self._look(model, resource, name)
        blocked = conflict(model, slot, seen) if seen else None
        if blocked:
            return blocked
        contested = await self._contested(model, slot, resource, manifest) if known else None
        if contested:
            return contested
        done.add((resource.kind, name))
        return await self._apply(model.key, slot, resource, manifest, seen.uid if seen else "")

    async def _contested(
        self, model: OwnerView, slot: str, resource: Resource, manifest: Manifest
    ) -> Blocked | None:
        """What to say where another writer changes a child again and again, and it is not put back yet."""
        digest = manifest["metadata"]["annotations"][ANNOTATION_APPLIED]
        if self._contests.is_suspected(model.key, slot, digest):
            live = await self._api.get(resource, model.namespace, manifest["metadata"]["name"])
            self._contests.begin(model.key, slot, taken(manifest, live) if live else None)
        return self._contests.wait(model.key, slot, digest)

    async def _look(self, model: OwnerView, resource: Resource, name: str) -> Identity | None:
        """Look for the object itself before the first apply, which would adopt another owner's."""
        live = await self._api.get(resource, model.namespace, name)
        return None if live is None else self._memory.remember(resource, live)

    async def _apply(
        self, key: Key, slot: str, resource: Resource, manifest: Manifest, uid: str
    ) -> Blocked | None:
        if uid:
            # With the uid, an object that was replaced since we looked is refused, never adopted.
            manifest = {**manifest, "metadata": {**manifest["metadata"], "uid": uid}}
        try:
            stored = await self._send(resource, manifest, owned=bool(uid))
        except (Forbidden, Invalid) as error:
            return problem(slot, error)
        _log.debug("applied %s", slot)
        view = self._memory.remember(resource, stored)
        if isinstance(view, ChildView):
            self._settled.setdefault(key, {})[slot] = view.ownership
        digest = manifest["metadata"]["annotations"][ANNOTATION_APPLIED]
        self._contests.applied(key, slot, digest, created=not uid)
        return self._contests.told(key, slot)

    async def _send(self, resource: Resource, manifest: Manifest, *, owned: bool) -> Object:
        """Apply; where a Service of ours was edited so that no apply can mend it, put its ports back first.

        The API server merges a list of ports by number and protocol. A hand that changed the number of a
        named port leaves an entry that an apply cannot take away, only double: that is refused.
        """
        try:
            return await self._api.apply(resource, manifest)
        except Invalid:
            if resource is not SERVICES or not owned:
                raise
        meta = manifest["metadata"]
        ports = {"metadata": {"uid": meta["uid"]}, "spec": {"ports": manifest["spec"]["ports"]}}
        await self._api.merge(resource, meta["namespace"], meta["name"], ports)
        return await self._api.apply(resource, manifest)

    async def _remove(self, resource: Resource, view: ChildView, done: Done) -> None:
        done.add((resource.kind, view.name))
        await self._api.delete(resource, view.namespace, view.name, uid=view.uid)
        _log.info("deleted %s/%s", resource.kind, view.name)


async def _say(told: Blocked) -> Blocked:
    """The work for a child that needs none, but of which there is something to say."""
    return told


def slot_of(resource: Resource, manifest: Manifest) -> str:
    """Kind and name of an object, as messages name it."""
    return f"{resource.kind}/{manifest['metadata']['name']}"


def _surplus(
    model: OwnerView, children: Children, optional: Collection[Resource], observed: Observed
) -> list[tuple[Resource, ChildView]]:
    """Children of ours of optional kinds that are not wanted any more."""
    wanted = {(resource, manifest["metadata"]["name"]) for resource, manifest in children}
    return [
        (resource, view)
        for resource in optional
        for name, view in observed.children.get(resource, {}).items()
        if (resource, name) not in wanted and view.owner_uid == model.uid and not view.deleting
    ]
