"""Which pods fit side by side on the free devices of nodes. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field


@dataclass(slots=True)
class Packing:
    """Free devices of nodes, and the pods that are to have them.

    The scheduler chooses the node of a pod. What matters here is whether there is a choice with which all
    pods fit. So pods that were put in earlier are moved where that makes room. For pods of the same size this
    finds a place whenever there is one (augmenting paths of a bipartite matching), and what fits does not
    depend on the order. Pods of different sizes are a packing problem: the search may miss a place.

    Parameters
    ----------
    free:
        By name of a node, units that are free.
    """

    free: dict[str, int]
    _pods: dict[str, list[tuple[AbstractSet[str], int]]] = field(default_factory=dict)
    _hopeless: set[tuple[AbstractSet[str], int]] = field(default_factory=set)

    def put(self, nodes: AbstractSet[str], units: int) -> bool:
        """Put a pod in; whether there is a place for it.

        Parameters
        ----------
        nodes:
            Names of the nodes that could take it.
        """
        if (nodes, units) in self._hopeless:
            return False
        path = self._path(nodes, units)
        if path is None:
            # Nothing is ever taken out, so it stays like this.
            self._hopeless.add((nodes, units))
            return False
        moved = (nodes, units)
        for node, index in path:
            displaced = self._pods[node].pop(index) if index is not None else None
            if displaced:
                self.free[node] += displaced[1]
            self._pods.setdefault(node, []).append(moved)
            self.free[node] -= moved[1]
            if displaced:
                moved = displaced
        return True

    def put_all(self, nodes: AbstractSet[str], units: int, count: int) -> bool:
        """Put in this number of pods, or none."""
        trial = Packing(dict(self.free), {node: list(pods) for node, pods in self._pods.items()})
        if not all(trial.put(nodes, units) for _ in range(count)):
            return False
        self.free, self._pods = trial.free, trial._pods
        return True

    def withhold(self, nodes: AbstractSet[str]) -> int:
        """Take all units out that are free on the node that has most of them; how many."""
        best = min(nodes & self.free.keys(), key=lambda node: (-self.free[node], node), default=None)
        if best is None or not self.free[best]:
            return 0
        units, self.free[best] = self.free[best], 0
        return units

    def _path(self, nodes: AbstractSet[str], units: int) -> list[tuple[str, int | None]] | None:
        """The shortest chain of moves that ends on a node with room; None if there is none.

        Each entry is a node, and which of its pods goes on to the node of the next entry.
        """
        came: dict[str, tuple[str, int] | None] = dict.fromkeys(self._known(nodes))
        sizes = dict.fromkeys(came, units)
        queue = deque(came)
        while queue:
            node = queue.popleft()
            if self.free[node] >= sizes[node]:
                return _chain(came, node)
            for index, (others, size) in enumerate(self._pods.get(node, ())):
                if self.free[node] + size < sizes[node]:
                    continue
                for other in self._known(others):
                    if other not in came:
                        came[other], sizes[other] = (node, index), size
                        queue.append(other)
        return None

    def _known(self, nodes: AbstractSet[str]) -> list[str]:
        """Those of the nodes that have such devices: the fullest that has room first, by name if equal."""
        return sorted(nodes & self.free.keys(), key=lambda node: (self.free[node], node))


def _chain(came: Mapping[str, tuple[str, int] | None], last: str) -> list[tuple[str, int | None]]:
    chain: list[tuple[str, int | None]] = [(last, None)]
    step = came[last]
    while step is not None:
        chain.append(step)
        step = came[step[0]]
    return chain[::-1]


def free_units(offered: Mapping[str, int], held: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Units that are free, by node.

    Parameters
    ----------
    offered:
        Units that each node offers.
    held:
        Node and units of each pod that holds some.
    """
    free = dict(offered)
    for node, units in held:
        if node in free:
            free[node] = max(free[node] - units, 0)
    return free
