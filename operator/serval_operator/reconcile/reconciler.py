"""The reconcile of any kind: hand a key to the controller of its kind, or forget an object that is gone."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from serval_operator.api.naming import Key
from serval_operator.reconcile.controller import KindController
from serval_operator.runtime.cache import Cache


class Reconciler:
    """Reconciles keys of all kinds.

    Parameters
    ----------
    controllers:
        By kind.
    serves:
        Whether an object may be reconciled now: everything that it needs can be seen.
    """

    def __init__(
        self,
        cache: Cache,
        controllers: Mapping[str, KindController],
        serves: Callable[[Key], bool] = lambda _: True,
    ) -> None:
        self._cache = cache
        self._controllers = controllers
        self._serves = serves

    async def reconcile(self, key: Key) -> float | None:
        """Reconcile one key; returns the seconds after which to come again, or None.

        Raises
        ------
        KubeError
            Something transient; the queue tries again with back-off.
        """
        controller, owner = self._controllers[key.kind], self._cache.owner(key)
        if owner is None or owner.deleting:
            # Owner references let Kubernetes remove the children; a write now would only create them again.
            controller.forget(key)
            return None
        if not self._serves(key):
            # It is enqueued again once everything that it needs can be seen.
            return None
        return await controller.reconcile(owner)

    def knows(self, key: Key) -> bool:
        """Whether a key is of a kind that is reconciled here."""
        return key.kind in self._controllers

    def waiting(self) -> set[Key]:
        """Keys that have to look again when nodes change."""
        return {key for controller in self._controllers.values() for key in controller.waiting}
