"""Whether a custom resource is still there, asked before children are created for it.

Its end and the end of its children come by different watches. Where the children's come first, a reconcile
would create all of them again for an owner that is gone: pods could start before the garbage collector
deletes them.
"""

from __future__ import annotations

import logging

from serval_operator.api.resources import Resource
from serval_operator.api.snapshots import OwnerView, parse_owner
from serval_operator.errors import KubeError
from serval_operator.runtime.cache import Cache
from serval_operator.runtime.kube_api import KubeApi

_log = logging.getLogger(__name__)


class OwnerCheck:
    """Looks whether the custom resources of one kind are still there."""

    def __init__(self, api: KubeApi, resource: Resource, owners: Cache) -> None:
        self._api = api
        self._resource = resource
        self._owners = owners

    async def lives(self, owner: OwnerView, *, lost_children: bool) -> bool:
        """Whether an object is the one that was observed, and not being deleted.

        Parameters
        ----------
        lost_children:
            Whether a child is missing that existed once. Then the API server is asked, by a LIST of one name:
            the operator has no right to `get`. Where it does not answer, the cache decides.
        """
        if not self._owners.is_current(owner) and not _same(owner, self._owners.owner(owner.key)):
            return False
        if not lost_children:
            return True
        try:
            listing = await self._api.list(
                self._resource, owner.namespace, field_selector=f"metadata.name={owner.name}"
            )
        except KubeError as error:
            _log.warning("%s could not be looked up: %s", owner.key, error)
            return True
        found = next(iter(listing.items), None)
        # Items of a LIST do not name their kind.
        return _same(owner, parse_owner({**found, "kind": self._resource.kind}) if found else None)


def _same(owner: OwnerView, now: OwnerView | None) -> bool:
    return now is not None and now.uid == owner.uid and not now.deleting
