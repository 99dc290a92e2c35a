"""Handles of what a test does to a running lab: nodes that die, devices that fail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from serval_lab import device_control, lifecycle, network, nodes
from serval_lab.context import Context
from serval_lab.errors import LabError
from serval_lab.spec import check_resource
from serval_lab.wait import wait_for

TOLD_LIMIT = 30.0
"""Seconds until a kubelet has been told of a device's change. Usually half of one."""
REFUSAL = "the fake device plugin was told to refuse"


class Node:
    """One node of a running lab.

    Parameters
    ----------
    context
        The lab.
    name
        Name of the node.
    """

    def __init__(self, context: Context, name: str) -> None:
        self._context = context
        self.name = name
        names = [node.name for node in context.state.nodes]
        if name not in names:
            raise LabError(f"lab {context.name} has no node {name!r}; it has {', '.join(names) or 'none'}")
        self._position = names.index(name)

    @property
    def address(self) -> str:
        """Address of the node on the bridge."""
        return str(self._context.plan.node(self._position).address)

    @property
    def folder(self) -> Path:
        """Folder of the node's files on this machine."""
        return self._context.folder.node(self.name)

    @property
    def alive(self) -> bool:
        """Whether its first process runs."""
        return self._context.process(nodes.component(self.name)) is not None

    @property
    def pid(self) -> int:
        """Id of its first process, for ``nsenter --target``.

        Raises
        ------
        LabError
            If the node is dead.
        """
        process = self._context.process(nodes.component(self.name))
        if process is None:
            raise LabError(f"node {self.name} is dead; see {self._context.log(nodes.component(self.name))}")
        return process.pid

    def kill(self) -> None:
        """Kill the node as a power cut would: every process on it is gone when this returns.

        The Node object stays; it becomes NotReady after the lab's `node_grace`.
        """
        nodes.kill(self._context, self._position)

    def start(self) -> None:
        """Start a killed node and wait until it is Ready; nothing happens to one that runs."""
        if not self.alive:
            lifecycle.start_nodes(self._context, [self._position])

    @property
    def reachable(self) -> bool:
        """Whether it runs and its link to the bridge is up."""
        return self.alive and not network.is_cut(self._context.plan, self._position)

    def cut(self) -> None:
        """Cut the node from the network, as if its cable were pulled; its pods go on unseen.

        The Node object becomes NotReady after the lab's `node_grace`.

        Raises
        ------
        LabError
            If the node is dead.
        """
        if not self.alive:
            raise LabError(f"node {self.name} is dead: there is nothing to cut")
        nodes.cut(self._context, self._position)

    def mend(self) -> None:
        """Connect the node again and wait until it is Ready; nothing happens to one that is connected."""
        if self.alive and not self.reachable:
            nodes.mend(self._context, self._position)


class Device:
    """One node's fake device plugin for one resource.

    Every change returns once the kubelet has been told. The Node object's allocatable follows within
    about a second.

    Parameters
    ----------
    context
        The lab.
    node
        Name of the node.
    resource
        Extended resource; one that the node does not have yet starts with 0 units.
    """

    def __init__(self, context: Context, node: str, resource: str) -> None:
        check_resource(resource)
        self._node = Node(context, node)
        self._context = context
        self._folder = self._node.folder / "devices"
        self.resource = resource

    @property
    def state(self) -> device_control.DeviceState:
        """What the plugin was last told."""
        found = device_control.read(device_control.control_file(self._folder, self.resource))
        return found or device_control.DeviceState(self.resource, 0)

    def set_units(self, units: int) -> None:
        """Have this many units: unit-0, unit-1, ..."""
        if units < 0:
            raise LabError(f"{self.resource} cannot have {units} units")
        self._tell(device_control.change(self._folder, self.resource, units=units))

    def set_cards(self, cards: int) -> None:
        """Lay the units on this many cards, so that a card is given more than once; 0: each is a card.

        Plugins that share cards do so. Containers that get a unit later are told its card.
        """
        if cards < 0:
            raise LabError(f"{self.resource} cannot have {cards} cards")
        self._tell(device_control.change(self._folder, self.resource, cards=cards))

    def set_unhealthy(self, ids: Sequence[str]) -> None:
        """Report these units, and no others, as unhealthy; ``()`` heals all.

        Raises
        ------
        LabError
            If there is no such unit.
        """
        strange = sorted(set(ids) - set(self.state.ids))
        if strange:
            raise LabError(f"{self._node.name} has no {', '.join(strange)} of {self.resource}")
        self._tell(device_control.change(self._folder, self.resource, unhealthy=ids))

    def set_faults(self, faults: Mapping[str, str]) -> None:
        """Say what is wrong with cards, and with no others, to the servers that drive them; ``{}`` heals all.

        The emulator of Serval's servers then reports its device as unhealthy. The kubelet is not told.

        Raises
        ------
        LabError
            If there is no such card.
        """
        strange = sorted(set(faults) - set(self.state.cards_of(self.state.ids)))
        if strange:
            raise LabError(f"{self._node.name} has no {', '.join(strange)} of {self.resource}")
        self._tell(device_control.change(self._folder, self.resource, faults=faults))

    def refuse(self, refuse: bool = True, message: str = REFUSAL) -> None:
        """Let every allocation fail with `message`, or succeed again.

        The kubelet then fails each pod with UnexpectedAdmissionError, and a ReplicaSet makes the next at
        once: many dead pods within seconds.
        """
        self._tell(device_control.change(self._folder, self.resource, refuse=message if refuse else ""))

    def stop_plugin(self) -> None:
        """Kill the plugin's process; nobody starts it until `start_plugin`.

        The node's allocatable goes to 0 at once, its capacity after five minutes, which the kubelet leaves a
        plugin to come back. Pods that have a unit keep it.
        """
        self._tell(device_control.change(self._folder, self.resource, stopped=True))

    def start_plugin(self) -> None:
        """Start the plugin again; it registers as it would after a crash."""
        self._tell(device_control.change(self._folder, self.resource, stopped=False))

    def _tell(self, state: device_control.DeviceState) -> None:
        if self._node.alive:
            wait_for(
                f"the kubelet of {self._node.name} being told of {self.resource}",
                lambda: device_control.acknowledged(self._folder, self.resource) >= state.generation,
                TOLD_LIMIT,
                log=self._context.log(f"{self._node.name}-devices-{device_control.file_name(self.resource)}"),
            )
