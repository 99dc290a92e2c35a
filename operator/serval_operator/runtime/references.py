"""Which custom resources name which others: the one index of references, whatever the kinds.

It is filled as objects are reconciled. After a start all of them are, so one that was not reconciled yet
cannot miss a change of what it names.
"""

from __future__ import annotations

from collections.abc import Iterable

from serval_operator.api.naming import Key


class References:
    """An index of references by both of their ends."""

    def __init__(self) -> None:
        self._named: dict[Key, frozenset[Key]] = {}
        self._referrers: dict[Key, set[Key]] = {}

    def update(self, referrer: Key, named: Iterable[Key]) -> frozenset[Key]:
        """Replace what an object names; gives it back without repetitions."""
        after = frozenset(named)
        before = self._named.get(referrer, frozenset())
        for key in before - after:
            self._referrers[key].discard(referrer)
            if not self._referrers[key]:
                del self._referrers[key]
        for key in after - before:
            self._referrers.setdefault(key, set()).add(referrer)
        if after:
            self._named[referrer] = after
        else:
            self._named.pop(referrer, None)
        return after

    def referrers(self, named: Key) -> tuple[Key, ...]:
        """Objects that name an object, whether that exists or not, in the order of their keys."""
        return tuple(sorted(self._referrers.get(named, ())))
