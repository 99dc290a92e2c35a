from __future__ import annotations

from ipaddress import IPv4Network
from itertools import combinations

import pytest

from serval_lab.addresses import BRIDGE_NAME, LINK_NAME, MAX_LABS, AddressPlan, free_indexes
from serval_lab.spec import MAX_NODES

INTERFACE_NAME_LIMIT = 15


def test_first_plan_has_the_documented_ranges() -> None:
    plan = AddressPlan(0)
    assert [str(net) for net in plan.networks] == ["10.89.0.0/24", "10.88.0.0/16", "10.96.0.0/16"]
    assert (str(plan.host), str(plan.apiserver_service)) == ("10.89.0.1", "10.96.0.1")
    first = plan.node(0)
    assert (str(first.address), str(first.pods), first.link) == ("10.89.0.11", "10.88.11.0/24", "sv0-11")


def test_no_two_labs_share_an_address() -> None:
    networks = [net for index in range(MAX_LABS) for net in AddressPlan(index).networks]
    assert not [pair for pair in combinations(networks, 2) if pair[0].overlaps(pair[1])]


@pytest.mark.parametrize("index", [0, 9, MAX_LABS - 1])
def test_nodes_of_a_lab_lie_inside_its_ranges_and_apart(index: int) -> None:
    plan = AddressPlan(index)
    nodes = [plan.node(position) for position in range(MAX_NODES)]
    assert all(node.address in plan.nodes and node.pods.subnet_of(plan.pods) for node in nodes)
    assert plan.host not in {node.address for node in nodes}
    assert len({node.pods for node in nodes}) == len({node.link for node in nodes}) == MAX_NODES


def test_interface_names_fit_and_are_recognized() -> None:
    plan = AddressPlan(MAX_LABS - 1)
    link = plan.node(MAX_NODES - 1).link
    assert max(len(plan.bridge), len(link)) <= INTERFACE_NAME_LIMIT
    assert BRIDGE_NAME.fullmatch(plan.bridge)
    assert LINK_NAME.fullmatch(link)
    assert not BRIDGE_NAME.fullmatch("serval-br0")


@pytest.mark.parametrize("index", [-1, MAX_LABS])
def test_no_plan_outside_the_range(index: int) -> None:
    with pytest.raises(ValueError, match="not within"):
        AddressPlan(index)


def test_free_indexes_avoid_other_labs_and_the_machines_networks() -> None:
    assert free_indexes([], [])[0] == 0
    assert free_indexes([0, 2], [])[:2] == [1, 3]
    office = IPv4Network("10.96.12.0/24")
    assert 0 not in free_indexes([], [office])
    assert free_indexes([], [IPv4Network("10.0.0.0/8")]) == []
