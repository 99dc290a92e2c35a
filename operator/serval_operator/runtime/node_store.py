"""What the operator saw of the cluster's nodes, and the news that those who wait for a place have to hear."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from serval_operator.api.naming import Key, Place
from serval_operator.api.nodes import NodeView, parse_node, shape
from serval_operator.api.unstructured import mapping
from serval_operator.runtime.store import Store

SWEEP_SECONDS = 0.5
"""Changes of nodes within this time are told as one. A pool that grows or is drained changes many at once."""


@dataclass(frozen=True, slots=True)
class SeenNode:
    """A node, with what a store asks of its views. It belongs to no ModelDeployment and to no namespace."""

    view: NodeView
    resource_version: str
    namespace: str = ""
    owner: Key | None = None

    @property
    def name(self) -> str:
        """Name of the node."""
        return self.view.name


class NodeStore(Store[SeenNode]):
    """Views of all nodes.

    A kubelet reports every few minutes that nothing has changed. Only a change of what the scheduler looks at
    is told.

    Parameters
    ----------
    on_change:
        Called for each node that came, went, or offers something else.
    clock:
        Monotonic seconds.
    """

    def __init__(self, on_change: Callable[[], None], *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(parse_seen, clock=clock)
        self._on_change = on_change

    def views(self) -> tuple[NodeView, ...]:
        """All nodes."""
        return tuple(seen.view for seen in self._views.values())

    def _put(self, place: Place, view: SeenNode) -> None:
        known = self._views.get(place)
        super()._put(place, view)
        if known is None or shape(known.view) != shape(view.view):
            self._on_change()

    def _drop(self, place: Place, known: SeenNode) -> tuple[Key, ...]:
        owners = super()._drop(place, known)
        self._on_change()
        return owners


def parse_seen(obj: Mapping[str, Any]) -> SeenNode:
    """A node as the store keeps it."""
    version = str(mapping(obj, "metadata").get("resourceVersion", ""))
    return SeenNode(parse_node(obj), resource_version=version)


class Timer(Protocol):
    """An event loop, as far as putting off needs it."""

    def call_later(self, delay: float, callback: Callable[[], None], /) -> object:
        """Call back in so many seconds."""


class Sweep:
    """Does something once for many changes that come together.

    Parameters
    ----------
    act:
        What to do.
    timer:
        The running event loop.
    """

    def __init__(self, act: Callable[[], None], timer: Timer) -> None:
        self._act = act
        self._timer = timer
        self._due = False

    def ask(self) -> None:
        """Act in a moment, unless that was asked for already."""
        if not self._due:
            self._due = True
            self._timer.call_later(SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        self._due = False
        self._act()
