"""Carries out a plan: children, creations and patches side by side, then deletions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from serval_operator.api.actions import Creation, Deletion, Patch
from serval_operator.api.conditions import Blocked, both, problem
from serval_operator.api.naming import Key
from serval_operator.api.snapshots import OwnerView
from serval_operator.errors import Conflict, Fenced, Forbidden, Invalid, KubeError
from serval_operator.pods.observation import Observed
from serval_operator.reconcile.applier import Applier, Done, slot_of
from serval_operator.reconcile.kind import Kind
from serval_operator.reconcile.plan import Outcome, Plan
from serval_operator.reconcile.together import Request, together
from serval_operator.runtime.cache import Cache
from serval_operator.runtime.drift import conflict
from serval_operator.runtime.kube_api import KubeApi

TOGETHER = 10
"""Deletions that are sent side by side."""
ALREADY_EXISTS = "AlreadyExists"
"""Reason of the API server where an object of the name exists. Other conflicts say nothing about that."""

CreatedFor = dict[tuple[str, str], frozenset[str]]
"""By kind and name of a created object: uids of the objects that it was created for."""

_log = logging.getLogger(__name__)


class Actor:
    """Carries out the plans of one kind."""

    def __init__(self, kind: Kind, api: KubeApi, memory: Cache, clock: Callable[[], float]) -> None:
        self._kind = kind
        self._api = api
        self._memory = memory
        self._applier = Applier(api, memory, clock)
        self._created_for: dict[Key, CreatedFor] = {}

    async def act(self, plan: Plan, observed: Observed) -> Outcome:
        """Carry out a plan."""
        owner, done = observed.model, Done()
        requests: list[Request] = []
        created_for = self._created_for.pop(owner.key, {})
        if plan.apply is not None:
            requests += self._applier.requests(owner, plan.apply, self._kind.optional, observed, done)
        for creation in plan.creations:
            slot = slot_of(creation.resource, creation.manifest)
            requests.append(Request(slot, self._create_once(owner, creation, slot, done, created_for)))
        for patch in plan.patches:
            slot = f"{patch.resource.kind}/{patch.target.name}"
            requests.append(Request(slot, self._patch(patch, slot, done)))
        # Side by side: none needs another, and a rollout should not wait for its own record.
        blocked, failed = await together(requests)
        deletions = [one for one in plan.deletions if one.after is None or one.after in done]
        left = await self._delete(deletions)
        left |= any(not one.required and _identity(one) not in done for one in plan.creations)
        return Outcome(
            both(plan.blocked, blocked),
            frozenset(done),
            sent=bool(done or blocked or failed or deletions),
            failed=failed,
            left=left,
        )

    def forget(self, key: Key) -> None:
        """Forget an object that is gone."""
        self._applier.forget(key)
        self._created_for.pop(key, None)

    async def _create_once(
        self, owner: OwnerView, creation: Creation, slot: str, done: Done, created_for: CreatedFor
    ) -> Blocked | None:
        """Create an object, unless it was created already for all that it has to exist for."""
        identity = _identity(creation)
        if creation.once_for is None:
            return await self._tried(owner, creation, slot, done)
        blocked = None
        if creation.once_for <= created_for.get(identity, frozenset()) and identity in created_for:
            done.add(identity)
        else:
            blocked = await self._tried(owner, creation, slot, done)
        if identity in done:
            self._created_for.setdefault(owner.key, {})[identity] = creation.once_for
        return blocked

    async def _tried(self, owner: OwnerView, creation: Creation, slot: str, done: Done) -> Blocked | None:
        """Create an object; where it is not required, a failure is only logged."""
        try:
            blocked = await self._create(owner, creation, slot, done)
        except Fenced:
            raise
        except KubeError as error:
            if creation.required:
                raise
            blocked = problem(slot, error)
        if blocked is None or creation.required:
            return blocked
        _log.warning("%s", blocked.message)
        return None

    async def _create(self, owner: OwnerView, creation: Creation, slot: str, done: Done) -> Blocked | None:
        """Create an object; one that exists already and is ours is as good."""
        resource, manifest = creation.resource, creation.manifest
        name = manifest["metadata"]["name"]
        try:
            stored = await self._api.create(resource, manifest)
        except Conflict as error:
            if error.reason != ALREADY_EXISTS:
                # Such as that of a quota that two writers change at the same time.
                raise
            if resource not in self._kind.owns:
                # It may not be read. Its name is so special that nobody else makes it.
                done.add((resource.kind, name))
                return None
            found = await self._api.get(resource, owner.namespace, name)
            if found is None:
                raise
            stored = found
        except (Forbidden, Invalid) as error:
            return problem(slot, error)
        if resource in self._kind.owns:
            view = self._memory.remember(resource, stored)
            blocked = conflict(owner, slot, view) if view else None
            if blocked:
                return blocked
        _log.debug("created %s", slot)
        done.add((resource.kind, name))
        return None

    async def _patch(self, patch: Patch, slot: str, done: Done) -> None:
        """Merge fields into an object that is still there and still the same."""
        target, fields = patch.target, patch.fields
        metadata = {**fields.get("metadata", {}), "uid": target.uid}
        try:
            stored = await self._api.merge(
                patch.resource, target.namespace, target.name, {**fields, "metadata": metadata}
            )
        except Forbidden as error:
            _log.warning("%s cannot be changed: %s", slot, error.message)
            return
        if stored is not None:
            self._memory.remember(patch.resource, stored)
            done.add((patch.resource.kind, target.name))

    async def _delete(self, deletions: Sequence[Deletion]) -> bool:
        """Delete what is not needed any more; whether something is left. A failure is only logged."""
        left = False
        for start in range(0, len(deletions), TOGETHER):
            requests = [
                Request(f"{one.resource.kind}/{one.target.name}", self._drop(one))
                for one in deletions[start : start + TOGETHER]
            ]
            _, failed = await together(requests)
            if failed:
                _log.warning("%s cannot be deleted: %s", failed.slot, failed.error)
                left = True
        return left

    async def _drop(self, deletion: Deletion) -> None:
        target = deletion.target
        await self._api.delete(deletion.resource, target.namespace, target.name, uid=target.uid)


def _identity(creation: Creation) -> tuple[str, str]:
    """Kind and name."""
    return (creation.resource.kind, creation.manifest["metadata"]["name"])
