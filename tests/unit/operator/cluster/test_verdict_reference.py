"""The verdict beside a plain one that sorts and fits all nodes: both say the same of any cluster."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serval_operator.api.device_holders import PodHold
from serval_operator.api.naming import Key
from serval_operator.api.nodes import NodeView
from serval_operator.api.placement import Placement
from serval_operator.cluster import capacity
from serval_operator.cluster.capacity import MOST_NAMED, Growth, Supply, judge_capacity
from serval_operator.cluster.node_fit import Fit, candidates, fit, trouble, untolerated
from unit.operator.cluster.capacity_rows import NAMESPACE, node

pytestmark = pytest.mark.unit

MACHINE = "node.kubernetes.io/instance-type"
ARCH = "kubernetes.io/arch"
RESOURCES = (
    "nvidia.com/gpu",
    "nvidia.com/mig-1g.10gb",
    "amd.com/gpu",
    "amd.com/xilinx_u250",
    "example.com/board",
)
LABELS: dict[str, tuple[str, ...]] = {
    "kubernetes.azure.com/accelerator": ("nvidia", "amd"),
    "accelerator": ("nvidia", "amd", "fpga"),
    "nvidia.com/gpu.present": ("true", "false"),
    "feature.node.kubernetes.io/pci-10de.present": ("true",),
    MACHINE: ("Standard_NC6", "Standard_ND96isr_MI300X_v5", "Standard_NP20s", "m5.large"),
    ARCH: ("amd64", "arm64"),
    "pool": ("a", "b"),
}
SIGNS = {
    "nvidia.com/": {
        ("kubernetes.azure.com/accelerator", "nvidia"),
        ("accelerator", "nvidia"),
        ("nvidia.com/gpu.present", "true"),
        ("feature.node.kubernetes.io/pci-10de.present", "true"),
    },
    "amd.com/gpu": {("kubernetes.azure.com/accelerator", "amd"), ("accelerator", "amd")},
}
MACHINES = {
    "nvidia.com/": ("Standard_NC", "Standard_ND"),
    "amd.com/xilinx": ("Standard_NP",),
    "xilinx.com/": ("Standard_NP",),
}
TAINTS = (("team", "speech", "NoSchedule"), ("team", "speech", "PreferNoSchedule"))


def promised(one: NodeView, resource: str) -> bool:
    """Whether labels or the machine of a node promise a device."""
    machine = one.labels.get(MACHINE, "")
    if "MI300X" in machine:
        return resource.startswith("amd.com/gpu")
    signs = {sign for start, signs in SIGNS.items() if resource.startswith(start) for sign in signs}
    machines = [name for start, names in MACHINES.items() if resource.startswith(start) for name in names]
    return bool(signs & set(one.labels.items())) or any(machine.startswith(name) for name in machines)


def plain_fit(one: NodeView, request: Placement) -> Fit:
    """How a node stands to a request, up to the state in which it is."""
    name = request.resource_name
    known = {*one.allocatable, *one.capacity}
    maker = name.partition("/")[0] + "/"
    has = name in known or (promised(one, name) and not any(resource.startswith(maker) for resource in known))
    if not has:
        return Fit.FOREIGN
    if 0 < plain_size(one, name) < request.count:
        return Fit.SMALL
    if plain_missing(one, request):
        return Fit.UNSELECTED
    if untolerated(one, request):
        return Fit.TAINTED
    found = fit(one, request)
    assert found in (Fit.USABLE, Fit.NOT_NOW)
    return found


def plain_size(one: NodeView, resource: str) -> int:
    return max(one.capacity.get(resource, 0), one.allocatable.get(resource, 0))


def plain_labels(request: Placement) -> list[tuple[str, tuple[str, ...]]]:
    found = [(name, (value,)) for name, value in request.node_selector.items()]
    if request.architectures:
        found.append((ARCH, tuple(request.architectures)))
    return sorted(found)


def plain_missing(one: NodeView, request: Placement) -> list[str]:
    return sorted({name for name, values in plain_labels(request) if one.labels.get(name) not in values})


def few(texts: list[str]) -> str:
    more = len(texts) - MOST_NAMED
    return ", ".join(texts[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def plain_words(request: Placement, supply: Supply) -> list[str]:
    """What the message must hold, by plain means; empty texts where it says nothing of nodes."""
    nodes = sorted(supply.nodes or (), key=lambda one: one.name)
    ranked: dict[Fit, list[NodeView]] = {}
    for one in nodes:
        ranked.setdefault(plain_fit(one, request), []).append(one)
    troubles = few([trouble(one, request) for one in ranked.get(Fit.NOT_NOW, [])])
    if Fit.USABLE in ranked:
        names = few([one.name for one in ranked[Fit.USABLE]])
        return [f"{names} could take it"] if supply.holds is None else [troubles]
    if request.resource_name in supply.claimable:
        return ["is allocated by a DeviceClass"]
    if supply.growth.coming:
        return [supply.growth.coming]
    if troubles:
        return [troubles]
    return [plain_nearest(request, ranked, nodes)]


def plain_nearest(request: Placement, ranked: dict[Fit, list[NodeView]], nodes: list[NodeView]) -> str:
    """What keeps the nearest nodes away, in words."""
    if Fit.TAINTED in ranked:
        return few(
            [
                f"{one.name} has {', '.join(map(str, untolerated(one, request)))}"
                for one in ranked[Fit.TAINTED]
            ]
        )
    if Fit.UNSELECTED in ranked:
        each = [
            f"{one.name} has "
            + ", ".join(
                f"{name}={one.labels[name]}" if name in one.labels else f"no {name}"
                for name in plain_missing(one, request)
            )
            for one in ranked[Fit.UNSELECTED]
        ]
        asked = ", ".join(f"{name}={' or '.join(values)}" for name, values in plain_labels(request))
        return f"the pod asks for {asked}; {few(each)}"
    if Fit.SMALL in ranked:
        sizes = {one.name: plain_size(one, request.resource_name) for one in nodes}
        largest = max(sorted(sizes), key=lambda name: sizes[name])
        return f"the largest node, {largest}, has {sizes[largest]}"
    offers = Counter(name for one in nodes for name, count in one.allocatable.items() if count)
    known = few([f"{name} ({count} node{'s' * (count != 1)})" for name, count in sorted(offers.items())])
    return f"nodes offer {known}" if offers else f"{len(nodes)} node{'s' * (len(nodes) != 1)} looked at"


def plain_numbers(request: Placement, supply: Supply) -> tuple[int | None, int | None]:
    """What is free, and how many pods fit."""
    usable = [one for one in supply.nodes or () if plain_fit(one, request) is Fit.USABLE]
    name = request.resource_name
    if supply.holds is None or (not usable and name in supply.claimable):
        return (None, None) if usable or name in supply.claimable else (0, 0)
    held = Counter[str]()
    for hold in supply.holds:
        held[hold.node] += hold.amounts.get(name, 0)
    left = [max(one.allocatable[name] - held[one.name], 0) for one in usable]
    return sum(left), sum(count // request.count for count in left)


@st.composite
def clusters(draw: st.DrawFn) -> tuple[NodeView, ...]:
    """Nodes with names of their own, in any order."""
    found = []
    for number in draw(st.lists(st.integers(0, 30), unique=True, max_size=8)):
        offered = draw(st.none() | st.integers(0, 3))
        labels = draw(st.dictionaries(st.sampled_from(list(LABELS)), st.integers(0, 3), max_size=3))
        found.append(
            node(
                f"n{number}",
                offered,
                known=draw(st.none() | st.integers(0, 4)),
                resource=draw(st.sampled_from(RESOURCES)),
                labels={name: LABELS[name][at % len(LABELS[name])] for name, at in labels.items()},
                taints=tuple(draw(st.sets(st.sampled_from(TAINTS), max_size=2))),
                ready=draw(st.integers(0, 5)) > 0,
                cordoned=draw(st.integers(0, 5)) == 0,
            )
        )
    return tuple(found)


@st.composite
def all_holds(draw: st.DrawFn) -> tuple[PodHold, ...] | None:
    """What pods hold; None where that is not known."""
    if draw(st.integers(0, 4)) == 0:
        return None
    return tuple(
        PodHold(
            draw(st.sampled_from((NAMESPACE, "other"))),
            f"pod-{number}",
            f"n{draw(st.integers(0, 30))}",
            draw(st.none() | st.just(Key("ModelDeployment", NAMESPACE, "digits"))),
            {draw(st.sampled_from(RESOURCES)): draw(st.integers(1, 3))},
        )
        for number in range(draw(st.integers(0, 6)))
    )


REQUESTS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "resource_name": st.sampled_from(RESOURCES),
        "count": st.integers(1, 3),
        "node_selector": st.dictionaries(
            st.sampled_from(("pool", "accelerator", ARCH)), st.sampled_from(("a", "nvidia", "arm64"))
        ),
        "tolerations": st.sampled_from(((), ({"key": "team", "operator": "Exists"},))),
        "architectures": st.sampled_from(((), ("amd64",), ("arm64", "amd64"))),
        "scalable": st.booleans(),
    }
)
GROWTH = st.sampled_from((Growth(), Growth(coming="one comes"), Growth(refused="no"), Growth(possible="may")))


@settings(max_examples=200)
@given(
    asked=REQUESTS,
    nodes=clusters(),
    holds=all_holds(),
    growth=GROWTH,
    claimable=st.sampled_from((frozenset(), frozenset({"example.com/board", "amd.com/gpu"}))),
    hide=st.booleans(),
)
def test_says_the_same(
    asked: dict[str, Any],
    nodes: tuple[NodeView, ...],
    holds: tuple[PodHold, ...] | None,
    growth: Growth,
    claimable: frozenset[str],
    hide: bool,
) -> None:
    request = Placement(**asked)
    supply = Supply(nodes, holds, growth, claimable)
    found = judge_capacity(request, supply, namespace=NAMESPACE, hide_foreign=hide)
    assert (found.free, found.fits) == plain_numbers(request, supply)
    if not found.fits:
        for words in plain_words(request, supply):
            assert words in found.message
    backwards = Supply(nodes[::-1], holds, growth, claimable)
    assert judge_capacity(request, backwards, namespace=NAMESPACE, hide_foreign=hide) == found


@given(asked=REQUESTS, nodes=clusters())
def test_only_foreign_nodes_are_left_out(asked: dict[str, Any], nodes: tuple[NodeView, ...]) -> None:
    request = Placement(**asked)
    looked_at = {one.name for one in candidates(nodes, request)}
    for one in nodes:
        expected = plain_fit(one, request)
        assert fit(one, request) is expected
        assert one.name in looked_at or expected is Fit.FOREIGN


def test_of_the_largest_nodes_the_first_by_name_is_told() -> None:
    supply = Supply((node("n3", 3), node("n1", 2), node("n2", 3)), ())
    request = Placement(resource_name="example.com/board", count=4)
    verdict = judge_capacity(request, supply, namespace=NAMESPACE, hide_foreign=False)
    assert "the largest node, n2, has 3" in verdict.message


def test_of_most_nodes_only_the_resource_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[str] = []

    def counted(one: NodeView, request: Placement) -> Fit:
        looked_at.append(one.name)
        return fit(one, request)

    monkeypatch.setattr(capacity, "fit", counted)
    others = [node(f"other-{number}", resource="vpc.amazonaws.com/pod-eni") for number in range(50)]
    supply = Supply((*others, node("n1", resource="nvidia.com/gpu")), ())
    request = Placement(resource_name="nvidia.com/gpu", count=1)
    assert judge_capacity(request, supply, namespace=NAMESPACE, hide_foreign=False).fits == 2
    assert looked_at == ["n1"]
