"""The address plan: who gets which subnet, address and interface name. Pure.

Every lab of a machine claims an index; everything that could clash is derived from it. Index 0 uses
10.89.0.0/24 for nodes, 10.88.0.0/16 for pods and 10.96.0.0/16 for Services.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

MAX_LABS = 16
FIRST_NODE = 11
"""Last byte of the first node's address; what lies below is the bridge's and for guests."""
APISERVER_PORT = 6443
REGISTRY_PORT = 5000
PUSH_REGISTRY_PORT = 5001
PUSH_REGISTRY_PLAIN_PORT = 5003
"""Of the registries to push to, with and without TLS; the token server of each has the next port."""

BRIDGE_NAME = re.compile(r"serval\d{1,2}")
LINK_NAME = re.compile(r"sv\d{1,2}-\d{1,3}")


@dataclass(frozen=True)
class NodeAddresses:
    """Addresses and names of one node."""

    address: IPv4Address
    pods: IPv4Network
    link: str


@dataclass(frozen=True)
class AddressPlan:
    """Subnets and names of the lab with one index.

    Attributes
    ----------
    index
        0 to 15, claimed by one lab at a time on a machine.
    """

    index: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < MAX_LABS:
            raise ValueError(f"index {self.index} is not within 0..{MAX_LABS - 1}")

    @property
    def nodes(self) -> IPv4Network:
        """Subnet of the bridge and of the nodes' first interfaces."""
        return IPv4Network(f"10.89.{self.index}.0/24")

    @property
    def pods(self) -> IPv4Network:
        """All pods; each node has a /24 of it."""
        return IPv4Network(f"10.{160 + self.index if self.index else 88}.0.0/16")

    @property
    def services(self) -> IPv4Network:
        """ClusterIPs."""
        return IPv4Network(f"10.{192 + self.index if self.index else 96}.0.0/16")

    @property
    def host(self) -> IPv4Address:
        """Address of the bridge: the machine, as nodes and pods see it."""
        return self.nodes[1]

    @property
    def apiserver_service(self) -> IPv4Address:
        """ClusterIP of ``kubernetes.default``."""
        return self.services[1]

    @property
    def bridge(self) -> str:
        """Name of the bridge, and of the lab's folder in each cgroup hierarchy."""
        return f"serval{self.index}"

    @property
    def networks(self) -> tuple[IPv4Network, IPv4Network, IPv4Network]:
        """The three subnets."""
        return self.nodes, self.pods, self.services

    def node(self, position: int) -> NodeAddresses:
        """Return what the node at `position` (from 0) gets."""
        last = FIRST_NODE + position
        pods = IPv4Network(f"{self.pods[last * 256]}/24")
        return NodeAddresses(self.nodes[last], pods, f"sv{self.index}-{last}")


def free_indexes(claimed: Iterable[int], in_use: Iterable[IPv4Network]) -> list[int]:
    """Return the indexes that a new lab may claim, the first choice first.

    Parameters
    ----------
    claimed
        Indexes of other labs.
    in_use
        Subnets that the machine already has routes to, but for its default route.
    """
    taken, routes = set(claimed), list(in_use)
    return [
        index
        for index in range(MAX_LABS)
        if index not in taken
        and not any(net.overlaps(route) for net in AddressPlan(index).networks for route in routes)
    ]
