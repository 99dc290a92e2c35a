"""A queue of keys that is fair between namespaces and kinds: many objects of one delay no other."""

from __future__ import annotations

from collections import deque

from serval_operator.api.naming import Key


class FairQueue:
    """Keys in the order of their coming within a namespace and kind; namespaces and kinds take turns."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str], deque[Key]] = {}

    def __bool__(self) -> bool:
        return bool(self._groups)

    def put(self, key: Key) -> None:
        """Add a key."""
        self._groups.setdefault((key.kind, key.namespace), deque()).append(key)

    def take(self) -> Key:
        """Take the key whose turn it is; the queue must not be empty."""
        group, keys = next(iter(self._groups.items()))
        del self._groups[group]
        key = keys.popleft()
        if keys:
            # At the end: a dictionary keeps the order in which its entries were added.
            self._groups[group] = keys
        return key

    def clear(self) -> None:
        """Forget all keys."""
        self._groups.clear()
