"""Views of all objects of one kind, as three sources tell of them.

Events of a watch, complete listings, and what the API server returned to our own writes arrive in any order;
resource versions, which are comparable numbers within a kind, decide which is newer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, Protocol, TypeVar

from serval_operator.api.naming import Key, Place

ADDED, MODIFIED, DELETED = "ADDED", "MODIFIED", "DELETED"
LISTED = None
"""Type that kopf gives to objects of its own listings."""
TOMBSTONE_SECONDS = 120.0
"""How long a deletion is remembered: longer than any answer that could bring the object back may take."""


class View(Protocol):
    """What a store needs of a view."""

    @property
    def namespace(self) -> str:
        """Namespace of the object."""

    @property
    def name(self) -> str:
        """Name of the object."""

    @property
    def resource_version(self) -> str:
        """Resource version of the object."""

    @property
    def owner(self) -> Key | None:
        """Key of the custom resource that has to look again after a change."""


V = TypeVar("V", bound=View)
Parse = Callable[[Mapping[str, Any]], V]


class Store(Generic[V]):
    """Views of all objects of one kind.

    Parameters
    ----------
    parse:
        Makes a view of an object.
    label:
        Label and value that the watched objects have; None if all of the kind are watched.
    clock:
        Monotonic seconds.

    Attributes
    ----------
    newest:
        The highest version that anything was seen at.
    """

    def __init__(
        self,
        parse: Parse[V],
        *,
        label: tuple[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.parse = parse
        self._label = label
        self._clock = clock
        self._views: dict[Place, V] = {}
        self._owned: dict[Key, dict[Place, V]] = {}
        self._tombstones: dict[Place, tuple[int, float]] = {}
        self._echoes: dict[Place, set[int]] = {}
        self._listed_at: dict[str | None, int] = {}
        self.newest = 0

    def __len__(self) -> int:
        return len(self._views)

    def listed_at(self, namespace: str | None = None) -> int:
        """Version at which a namespace, or with None everything, was last listed; 0 if it never was."""
        return self._listed_at.get(namespace, 0)

    def get(self, place: Place) -> V | None:
        """The view of an object, or None."""
        return self._views.get(place)

    def is_gone(self, place: Place) -> bool:
        """Whether an object was there a short while ago, and its deletion was reported."""
        return place not in self._views and place in self._tombstones

    def entries(self) -> tuple[V, ...]:
        """All views."""
        return tuple(self._views.values())

    def owners(self) -> tuple[Key, ...]:
        """Keys of all owners."""
        return tuple(self._owned)

    def by_owner(self, owner: Key) -> tuple[V, ...]:
        """Views of the objects that belong to an owner."""
        return tuple(self._owned.get(owner, {}).values())

    def observe(self, kind: str | None, obj: Mapping[str, Any]) -> tuple[Key, ...]:
        """Take an event of the watch.

        Parameters
        ----------
        kind:
            ADDED, MODIFIED or DELETED; None for an object of the watcher's own listing.

        Returns
        -------
        tuple
            Keys of the owners that have to look again; empty if the event tells nothing new.
        """
        view = self.parse(obj)
        place, version = _place(view), _version(view)
        self.newest = max(self.newest, version)
        known = self._views.get(place)
        if kind == DELETED:
            return self._removed(place, version, known)
        if not _newer(version, self._ended(place)):
            return ()
        if known is None or _newer(version, _version(known)):
            self._echoes.pop(place, None)
            self._put(place, view)
            return _owners(known, view)
        if kind is not LISTED and version in self._echoes.get(place, ()):
            # The echo of our own write. What others wrote before it came by its own event.
            self._heard(place, version)
            return ()
        if place in self._echoes:
            # Somebody wrote before we did: our write's answer held the change, but its reader had not
            # looked for it. A listing may have left out the event that would have told.
            if kind is LISTED:
                self._echoes.pop(place)
            return _owners(known)
        return ()

    def remember(self, obj: Mapping[str, Any]) -> V:
        """Take an object as the API server returned it to a write or read of ours; gives its view.

        An object that the watch does not report is not kept: no one would tell of its end.
        """
        view = self.parse(obj)
        place, version = _place(view), _version(view)
        self.newest = max(self.newest, version)
        known = self._views.get(place)
        newer = known is None or _newer(version, _version(known))
        if newer and _newer(version, self._ended(place)) and self._watched(obj):
            self._put(place, view)
            self._echoes.setdefault(place, set()).add(version)
        return view

    def replace(
        self, views: Iterable[V], resource_version: str, namespace: str | None = None, *, before: int = 0
    ) -> set[Key]:
        """Take a complete listing: drop what it lacks, keep what is newer than it.

        Versions only ever grow, unless the cluster was put back to an older state. Then nothing counts that
        is known, however high its version. It shows where the listing was read at a version from before what
        had been seen when it was asked for, and, where the data have come as far again, in objects that are
        older in it than they were once.

        Parameters
        ----------
        resource_version:
            What the listing says that it was read at.
        namespace:
            Namespace that was listed; None for all.
        before:
            `newest` as it was when the listing was asked for.

        Returns
        -------
        set
            Keys of the owners of all that differed from what was known.
        """
        listed_at = _number(resource_version)
        restored = listed_at < max(before, self._listed_at.get(namespace, 0))
        self._listed_at[namespace] = listed_at
        self.newest = listed_at if restored else max(self.newest, listed_at)
        if restored:
            self._tombstones.clear()
            self._echoes.clear()
        changed: set[Key] = set()
        seen: set[Place] = set()
        for view in views:
            place, version = _place(view), _version(view)
            seen.add(place)
            known = self._views.get(place)
            newer = known is None or _newer(version, _version(known))
            undone = known is not None and version < _version(known) <= listed_at
            lives = _newer(version, self._buried(place)) or self._buried(place) <= listed_at
            if restored or undone or (newer and lives):
                self._put(place, view)
                changed.update(_owners(known, view))
        for place, known in list(self._views.items()):
            inside = namespace is None or place.namespace == namespace
            since = _version(known) > listed_at > 0
            if inside and place not in seen and (restored or not since):
                changed.update(self._drop(place, known))
        self._forget_tombstones()
        return changed

    def _watched(self, obj: Mapping[str, Any]) -> bool:
        if self._label is None:
            return True
        labels = (obj.get("metadata") or {}).get("labels") or {}
        return bool(labels.get(self._label[0]) == self._label[1])

    def _removed(self, place: Place, version: int, known: V | None) -> tuple[Key, ...]:
        self._tombstones[place] = (max(version, self._buried(place)), self._clock() + TOMBSTONE_SECONDS)
        if known is None or _version(known) > version > 0:
            return ()
        return self._drop(place, known)

    def _drop(self, place: Place, known: V) -> tuple[Key, ...]:
        del self._views[place]
        self._echoes.pop(place, None)
        self._disown(place, known)
        return _owners(known)

    def _put(self, place: Place, view: V) -> None:
        known = self._views.get(place)
        if known is not None:
            self._disown(place, known)
        self._views[place] = view
        if view.owner is not None:
            self._owned.setdefault(view.owner, {})[place] = view

    def _disown(self, place: Place, view: V) -> None:
        if view.owner is None:
            return
        owned = self._owned.get(view.owner, {})
        owned.pop(place, None)
        if not owned:
            self._owned.pop(view.owner, None)

    def _heard(self, place: Place, version: int) -> None:
        self._echoes[place].discard(version)
        if not self._echoes[place]:
            del self._echoes[place]

    def _buried(self, place: Place) -> int:
        """Version at which an object of this key was last deleted; -1 if that is not known."""
        return self._tombstones.get(place, (-1, 0.0))[0]

    def _ended(self, place: Place) -> int:
        """Version up to which an object of this key is known to be gone; -1 if nothing tells.

        A deletion tells, and so does a listing that lacked it.
        """
        if place in self._views:
            return self._buried(place)
        return max(
            self._buried(place), self._listed_at.get(None, -1), self._listed_at.get(place.namespace, -1)
        )

    def _forget_tombstones(self) -> None:
        now = self._clock()
        for place in [place for place, (_, until) in self._tombstones.items() if until < now]:
            del self._tombstones[place]


def _place(view: View) -> Place:
    return Place(view.namespace, view.name)


def _version(view: View) -> int:
    return _number(view.resource_version)


def _number(text: str) -> int:
    """A resource version as a number; 0 if it is none."""
    return int(text) if text.isdecimal() else 0


def _newer(version: int, known: int) -> bool:
    """Whether a version counts as newer. One that is no number cannot be compared: what came last counts."""
    return version == 0 or version > known


def _owners(*views: View | None) -> tuple[Key, ...]:
    """The owners of views, each once."""
    return tuple(dict.fromkeys(view.owner for view in views if view is not None and view.owner is not None))
