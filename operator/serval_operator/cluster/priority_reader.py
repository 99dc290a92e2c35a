"""Reads the values of PriorityClasses, while objects wait for the same devices."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from serval_operator.api.resources import PRIORITY_CLASSES
from serval_operator.api.rivals import Priorities
from serval_operator.api.unstructured import mapping, whole
from serval_operator.cluster.kept import PATIENCE, Fault, Kept
from serval_operator.runtime.access_review import Access
from serval_operator.runtime.kube_api import KubeApi, Object

PRIORITIES_KEPT = 60.0
"""Seconds for which the classes are valid. The value of a class never changes, but classes come and go."""

MISSING_AGAIN = 10.0
"""Seconds until a class that was not there is looked for again."""


class PriorityReader:
    """Lists PriorityClasses for all callers together, within the permissions of the operator.

    Parameters
    ----------
    access:
        Gives what the operator may read now.
    clock:
        Monotonic seconds.
    patience:
        Seconds that a caller waits.

    Attributes
    ----------
    fault:
        Whether they cannot be listed.
    """

    def __init__(
        self,
        api: KubeApi,
        access: Callable[[], Access],
        clock: Callable[[], float],
        *,
        patience: float = PATIENCE,
    ) -> None:
        self.fault = Fault(
            "PriorityClasses cannot be listed, so new ones do not count in the queue for devices"
        )
        self._access = access
        self._clock = clock
        self._looked_for = float("-inf")
        self._last = Priorities(known=False)
        request = partial(_listed, api)
        self._kept = Kept(request, PRIORITIES_KEPT, clock, self.fault, "priorities", patience=patience)

    async def priorities(self, names: Iterable[str]) -> Priorities:
        """Return the values: all are 0 where they may not be read, and the last ones where they cannot be.

        Parameters
        ----------
        names:
            Classes that are asked for. One that was not there is looked for again after a while.
        """
        if not self._access().priority_classes:
            return Priorities()
        found = await self._kept.get() or self._last
        now = self._clock()
        if now - self._looked_for >= MISSING_AGAIN and any(name not in found.values for name in names):
            self._looked_for = now
            found = await self._kept.get(fresh=True) or found
        self._last = found
        return found


async def _listed(api: KubeApi) -> Priorities:
    listing = await api.list_as(_value, PRIORITY_CLASSES)
    default = next((value for _, value, is_default in listing.items if is_default), 0)
    return Priorities({name: value for name, value, _ in listing.items}, default)


def _value(obj: Object) -> tuple[str, int, bool]:
    """Name and value of a class, and whether it is that of pods without one."""
    name = str(mapping(obj, "metadata").get("name", ""))
    return name, whole(obj.get("value")), obj.get("globalDefault") is True
