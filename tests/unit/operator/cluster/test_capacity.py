"""Capacity verdicts: a row for each answer, its words, and what follows from it."""

from __future__ import annotations

from dataclasses import astuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serval_operator.api.device_holders import PodHold
from serval_operator.api.nodes import NodeView
from serval_operator.api.placement import Placement
from serval_operator.cluster.capacity import CapacityVerdict, Growth, Holder, Supply, judge_capacity, refuses
from serval_operator.cluster.node_fit import could_take
from serval_operator.cluster.room import Room, look_for_room
from serval_operator.reasons import CAPACITY_REASONS, FITS
from unit.operator.cluster.capacity_rows import BOARD, NAMESPACE, hold, judged, node, request

pytestmark = pytest.mark.unit

GPU = "nvidia.com/gpu"
ARCH = "kubernetes.io/arch"
TAINT = ("team", "speech", "NoSchedule")
AKS = {"kubernetes.azure.com/accelerator": "nvidia"}
ORDERED = Growth(coming="pod triggered scale-up: [{gpu 1->2 (max: 3)}]")
DECLINED = Growth(refused="pod didn't trigger scale-up: 1 max node group size reached")
POSSIBLE = Growth(possible="the cluster autoscaler may add a node to gpu, which has none")

ANSWERS = {
    "free": (judged(node()), "DeviceFree", f"n1 has 2 {BOARD} free"),
    "free on the other": (judged(node(boards=1), node("n2", 1), holds=(hold(),)), "DeviceFree", "n2 has 1"),
    "finished pods hold nothing": (judged(node(boards=1), holds=()), "DeviceFree", "n1 has 1"),
    "held by one of ours": (
        judged(node(boards=1), holds=(hold(),)),
        "AcceleratorBusy",
        f"no node has 1 {BOARD} free (0 of 1 {BOARD} free); held by vision/other (1 on n1)",
    ),
    "held by a stranger": (
        judged(node(boards=1), holds=(hold(ours=False, namespace="batch"),)),
        "AcceleratorBusy",
        "held by batch/other-pod (1 on n1)",
    ),
    "in fragments": (
        judged(node(), node("n2"), holds=(hold(), hold(on="n2")), count=2),
        "AcceleratorBusy",
        f"no node has 2 {BOARD} free (2 of 4 {BOARD} free, at most 1 on one node)",
    ),
    "held, and more is cordoned": (
        judged(node(boards=1), node("n2", cordoned=True), holds=(hold(),)),
        "AcceleratorBusy",
        "; n2 is cordoned",
    ),
    "held, and a node was ordered": (
        judged(node(boards=1), holds=(hold(),), growth=ORDERED),
        "ScaleUpPending",
        "pod triggered scale-up: [{gpu 1->2 (max: 3)}]; until then no node has",
    ),
    "held, and no node will come": (
        judged(node(boards=1), holds=(hold(),), growth=DECLINED),
        "AcceleratorBusy",
        "held by vision/other (1 on n1); pod didn't trigger scale-up: 1 max node group size reached",
    ),
    "held, and a node may come": (
        judged(node(boards=1), holds=(hold(),), growth=POSSIBLE),
        "AcceleratorBusy",
        "held by vision/other",
    ),
    "held by a pod that does not end": (
        judged(node(boards=2), holds=(hold(), hold(deleting=True))),
        "AcceleratorBusy",
        "held by vision/other (2 on n1, its pod other-pod is Terminating)",
    ),
    "held, and a pod does not end on a lost node": (
        judged(node(boards=1), node("n2", 1, ready=False), holds=(hold(), hold(on="n2", deleting=True))),
        "AcceleratorBusy",
        "held by vision/other (1 on n1); n2 is not ready (in Terminating there: vision/other-pod)",
    ),
    "a pod does not end on a lost node": (
        judged(node(boards=1, ready=False), holds=(hold(deleting=True),)),
        "DeviceNotReady",
        "n1 is not ready (in Terminating there: vision/other-pod)",
    ),
    "disk pressure": (
        judged(node(taints=(("node.kubernetes.io/disk-pressure", "", "NoSchedule"),))),
        "DeviceNotReady",
        "n1 has node.kubernetes.io/disk-pressure:NoSchedule",
    ),
    "held, and a node is shut down": (
        judged(
            node(boards=1),
            node("n2", taints=(("node.cloudprovider.kubernetes.io/shutdown", "", "NoSchedule"),)),
            holds=(hold(),),
        ),
        "AcceleratorBusy",
        "; n2 has node.cloudprovider.kubernetes.io/shutdown:NoSchedule",
    ),
    "cordoned": (judged(node(cordoned=True)), "DeviceNotReady", "n1 is cordoned"),
    "lost": (judged(node(ready=False)), "DeviceNotReady", "n1 is not ready"),
    "unhealthy": (
        judged(node(boards=1, known=2), count=2),
        "DeviceNotReady",
        f"n1 offers 1 of its 2 {BOARD}",
    ),
    "all unhealthy": (judged(node(boards=0, known=2)), "DeviceNotReady", f"n1 offers 0 of its 2 {BOARD}"),
    "detected": (
        judged(node(boards=0, known=2, trouble="GPUMissing")),
        "DeviceNotReady",
        f"n1 offers 0 of its 2 {BOARD}; GPUMissing: it is sick",
    ),
    "plugin gone": (
        judged(node(boards=0)),
        "DeviceNotReady",
        f"n1 should have {BOARD} and its device plugin or driver offers none",
    ),
    "plugin never came": (
        judged(node(boards=None, labels=AKS), resource=GPU),
        "DeviceNotReady",
        f"n1 should have {GPU}",
    ),
    "machine without a plugin": (
        judged(
            node(boards=None, labels={"node.kubernetes.io/instance-type": "Standard_NP20s"}),
            resource="amd.com/xilinx_u250",
        ),
        "DeviceNotReady",
        "n1 should have amd.com/xilinx_u250",
    ),
    "GPUs of the other maker": (
        judged(
            node(
                boards=None,
                labels={"node.kubernetes.io/instance-type": "Standard_ND96isr_MI300X_v5"},
            ),
            resource=GPU,
        ),
        "NoNodeOffersResource",
        f"no node offers {GPU}",
    ),
    "another device of the maker": (
        judged(node(resource=GPU, labels=AKS), resource="nvidia.com/mig-1g.10gb"),
        "NoNodeOffersResource",
        f"no node offers nvidia.com/mig-1g.10gb; nodes offer {GPU} (1 node)",
    ),
    "ordered": (judged(growth=ORDERED), "ScaleUpPending", "pod triggered scale-up"),
    "ordered beats a sick node": (judged(node(boards=0), growth=ORDERED), "ScaleUpPending", "triggered"),
    "declared scalable": (
        judged(scalable=True),
        "ScaleUpPending",
        f"no node offers {BOARD}; 0 nodes looked at; the accelerator profile says",
    ),
    "scalable and declined": (
        judged(scalable=True, growth=DECLINED),
        "ScaleUpBlocked",
        "pod didn't trigger scale-up: 1 max node group size reached",
    ),
    "declined where nothing could come": (
        judged(node(boards=None), growth=DECLINED),
        "NoNodeOffersResource",
        "pod didn't trigger scale-up",
    ),
    "an empty node group": (judged(growth=POSSIBLE), "ScaleUpPending", "may add a node to gpu"),
    "tainted": (
        judged(node(taints=(TAINT,))),
        "UntoleratedTaint",
        "the pod does not tolerate taints of nodes with the device: n1 has team=speech:NoSchedule",
    ),
    "selected otherwise": (
        judged(node(labels={"pool": "a"}), node_selector={"pool": "b", "zone": "1"}),
        "SelectorMismatch",
        "the pod asks for pool=b, zone=1; n1 has pool=a, no zone",
    ),
    "built for another architecture": (
        judged(node(labels={ARCH: "arm64"}), architectures=("amd64",)),
        "SelectorMismatch",
        f"the pod asks for {ARCH}=amd64; n1 has {ARCH}=arm64",
    ),
    "built for two others, in another pool": (
        judged(node(labels={ARCH: "s390x"}), node_selector={"pool": "b"}, architectures=("amd64", "arm64")),
        "SelectorMismatch",
        f"the pod asks for {ARCH}=amd64 or arm64, pool=b; n1 has {ARCH}=s390x, no pool",
    ),
    "selected for an architecture that no image is built for": (
        judged(node(labels={ARCH: "amd64"}), node_selector={ARCH: "arm64"}, architectures=("amd64",)),
        "SelectorMismatch",
        f"the pod asks for {ARCH}=amd64, {ARCH}=arm64; n1 has {ARCH}=amd64",
    ),
    "built for this one too": (
        judged(node(labels={ARCH: "arm64"}), architectures=("amd64", "arm64")),
        "DeviceFree",
        "n1 has 2",
    ),
    "tainted comes nearer than unlabelled": (
        judged(
            node(taints=(TAINT,), labels={"pool": "b"}),
            node("n2", labels={"pool": "a"}),
            node_selector={"pool": "b"},
        ),
        "UntoleratedTaint",
        "n1 has team=speech:NoSchedule",
    ),
    "too large": (
        judged(node(), node("n2", 3), node("n3", 3), count=4),
        "RequestExceedsNode",
        f"one pod asks for 4 {BOARD}, and the largest node, n2, has 3",
    ),
    "a large node is tainted": (
        judged(node(boards=4, taints=(TAINT,)), node("n2"), count=4),
        "UntoleratedTaint",
        "n1",
    ),
    "nobody has it": (
        judged(node(boards=None), node("n2", 2, resource=GPU), node("n3", 1, resource=GPU)),
        "NoNodeOffersResource",
        f"no node offers {BOARD}; nodes offer {GPU} (2 nodes)",
    ),
    "an empty cluster": (judged(), "NoNodeOffersResource", f"no node offers {BOARD}; 0 nodes looked at"),
    "pods not counted": (judged(node(), holds=None), "CapacityUnknown", "what is free is not known"),
    "claims": (
        judged(node(boards=None), claimable=frozenset({BOARD})),
        "CapacityUnknown",
        f"{BOARD} is allocated by a DeviceClass",
    ),
    "plugins beside claims": (judged(node(), claimable=frozenset({BOARD})), "DeviceFree", "n1 has 2"),
    "many": (
        judged(*(node(f"n{number}", cordoned=True) for number in range(1, 6))),
        "DeviceNotReady",
        "n1 is cordoned, n2 is cordoned, n3 is cordoned and 2 more",
    ),
}


@pytest.mark.parametrize(("verdict", "reason", "words"), ANSWERS.values(), ids=ANSWERS)
def test_answers(verdict: CapacityVerdict, reason: str, words: str) -> None:
    assert verdict.reason == reason
    assert words in verdict.message
    assert (verdict.reason == FITS) == bool(verdict.fits)


def test_nodes_that_may_not_be_seen() -> None:
    verdict = judge_capacity(request(), Supply(None), namespace=NAMESPACE, hide_foreign=False)
    assert (verdict.reason, verdict.free, verdict.fits) == ("CapacityUnknown", None, None)


@pytest.mark.parametrize(
    ("count", "holds", "free", "fits"),
    [
        (1, (), 5, 5),
        (2, (), 5, 2),
        (2, (hold(),), 4, 1),
        (3, (), 3, 1),  # the small node could never take it
        (1, (hold(2), hold(3, on="n2")), 0, 0),
        (1, (hold(9),), 3, 3),  # more than there are: devices were lost under running pods
        (1, (hold(1, on="gone"),), 5, 5),
    ],
)
def test_what_is_free_and_how_many_pods_fit(
    count: int, holds: tuple[PodHold, ...], free: int, fits: int
) -> None:
    verdict = judged(node(boards=2), node("n2", 3), holds=holds, count=count)
    assert (verdict.free, verdict.fits) == (free, fits)


class TestHolders:
    HOLDS = (
        hold(1, model="small"),
        hold(1, model="large"),
        hold(1, model="large"),
        hold(2, on="n2", model="large", namespace="speech"),
    )

    def test_are_summed_and_the_largest_come_first(self) -> None:
        held = judged(node(boards=3), node("n2", 2), holds=self.HOLDS).holders
        assert [astuple(one) for one in held] == [
            ("ModelDeployment", "speech", "large", "n2", 2, ""),
            ("ModelDeployment", "vision", "large", "n1", 2, ""),
            ("ModelDeployment", "vision", "small", "n1", 1, ""),
        ]

    def test_of_other_namespaces_are_counted_only_where_they_are_hidden(self) -> None:
        verdict = judged(node(boards=3), node("n2", 2), holds=self.HOLDS, hide=True)
        assert Holder("", "", "", "", 2) in verdict.holders
        assert "speech" not in verdict.message
        assert "2 in other namespaces" in verdict.message
        assert {one.namespace for one in verdict.holders} == {"", "vision"}

    def test_on_nodes_that_the_pod_could_not_have_are_left_out(self) -> None:
        verdict = judged(node(boards=1), node("n2", 1, taints=(TAINT,)), holds=(hold(), hold(on="n2")))
        assert [one.node for one in verdict.holders] == ["n1"]


TOLERATIONS = {
    "by key": ({"key": "team", "operator": "Exists"}, True),
    "by value": ({"key": "team", "value": "speech", "effect": "NoSchedule"}, True),
    "all": ({"operator": "Exists"}, True),
    "another value": ({"key": "team", "value": "vision"}, False),
    "another key": ({"key": "other", "operator": "Exists"}, False),
    "another effect": ({"key": "team", "operator": "Exists", "effect": "NoExecute"}, False),
    "equal without a key": ({"value": "speech"}, False),
}


@pytest.mark.parametrize(("toleration", "tolerated"), TOLERATIONS.values(), ids=TOLERATIONS)
def test_tolerations(toleration: dict[str, str], tolerated: bool) -> None:
    verdict = judged(node(taints=(TAINT,)), tolerations=(toleration,))
    assert verdict.reason == ("DeviceFree" if tolerated else "UntoleratedTaint")


def test_a_preference_is_no_reason() -> None:
    assert judged(node(taints=(("team", "speech", "PreferNoSchedule"),))).reason == "DeviceFree"


STATES = {
    "cordoned": ("node.kubernetes.io/unschedulable", "", "NoSchedule"),
    "not ready": ("node.kubernetes.io/not-ready", "", "NoSchedule"),
    "unreachable": ("node.kubernetes.io/unreachable", "", "NoSchedule"),
    "disk": ("node.kubernetes.io/disk-pressure", "", "NoSchedule"),
    "memory": ("node.kubernetes.io/memory-pressure", "", "NoSchedule"),
    "process ids": ("node.kubernetes.io/pid-pressure", "", "NoSchedule"),
    "network": ("node.kubernetes.io/network-unavailable", "", "NoSchedule"),
    "out of service": ("node.kubernetes.io/out-of-service", "nodeshutdown", "NoExecute"),
    "not initialized": ("node.cloudprovider.kubernetes.io/uninitialized", "true", "NoSchedule"),
    "shut down": ("node.cloudprovider.kubernetes.io/shutdown", "", "NoSchedule"),
}


@pytest.mark.parametrize("taint", STATES.values(), ids=STATES)
class TestStates:
    """Taints by which Kubernetes marks the state of a node: it takes no pod now, and may soon."""

    def test_the_node_takes_no_pod_now(self, taint: tuple[str, str, str]) -> None:
        verdict = judged(node(taints=(taint,)))
        assert (verdict.reason, verdict.fits) == ("DeviceNotReady", 0)

    def test_another_node_does(self, taint: tuple[str, str, str]) -> None:
        verdict = judged(node(taints=(taint,)), node("n2", 1))
        assert (verdict.reason, verdict.fits) == ("DeviceFree", 1)

    def test_a_pod_that_tolerates_it_is_taken(self, taint: tuple[str, str, str]) -> None:
        for toleration in ({"key": taint[0], "operator": "Exists"}, {"operator": "Exists"}):
            assert judged(node(taints=(taint,)), tolerations=(toleration,)).reason == "DeviceFree"

    def test_a_preference_of_it_is_no_reason(self, taint: tuple[str, str, str]) -> None:
        assert judged(node(taints=((taint[0], taint[1], "PreferNoSchedule"),))).reason == "DeviceFree"

    def test_a_pod_without_devices_is_not_taken_either(self, taint: tuple[str, str, str]) -> None:
        assert not could_take(node(taints=(taint,)), Placement())
        assert could_take(node(taints=(taint,)), Placement(tolerations=({"operator": "Exists"},)))


@pytest.mark.parametrize("state", ["not-ready", "unreachable"])
def test_what_kubernetes_lets_every_pod_tolerate_is_no_reason(state: str) -> None:
    """The admission plugin DefaultTolerationSeconds."""
    taint = (f"node.kubernetes.io/{state}", "", "NoExecute")
    assert judged(node(taints=(taint,))).reason == "DeviceFree"


@pytest.mark.parametrize(
    ("one", "takes"),
    [
        (node(boards=None), True),
        (node(cordoned=True), False),
        (node(ready=False), False),
        (node(taints=(TAINT,)), False),
        (node(labels={"pool": "a"}), False),
    ],
)
def test_where_a_pod_without_devices_could_stand(one: NodeView, *, takes: bool) -> None:
    selector = {"pool": "b"} if one.labels else {}
    assert could_take(one, Placement(node_selector=selector)) == takes


class TestRoom:
    """Of the nodes of old pods: those where a new one could stand in the place of an old one."""

    NODES = (node("n1", 1), node("n2", 1, cordoned=True), node("n3", 1), node("n4", None))
    PLACES = frozenset({"n1", "n2", "n4", "gone"})

    def test_with_a_device(self) -> None:
        room = look_for_room(request(), Supply(self.NODES, ()), 0, self.PLACES)
        assert room == Room(0, frozenset({"n1"}))

    def test_without_a_device(self) -> None:
        room = look_for_room(Placement(), Supply(self.NODES, None), None, self.PLACES)
        assert room == Room(None, frozenset({"n1", "n4"}))

    def test_nodes_that_may_not_be_seen(self) -> None:
        assert look_for_room(request(), Supply(None), None, self.PLACES) == Room(None, None)

    def test_claims_of_which_nodes_give_no_numbers(self) -> None:
        supply = Supply(self.NODES, (), claimable=frozenset({BOARD}))
        assert look_for_room(request(), supply, None, self.PLACES).nodes is None

    def test_a_node_that_comes(self) -> None:
        assert look_for_room(request(), Supply((), (), ORDERED), 0, self.PLACES).coming


IMPOSSIBLE = ("UntoleratedTaint", "SelectorMismatch", "RequestExceedsNode", "NoNodeOffersResource")
PERHAPS = ("ScaleUpPending", "ScaleUpBlocked")


@pytest.mark.parametrize("reason", sorted({*CAPACITY_REASONS, FITS}))
@pytest.mark.parametrize("asked", ["Auto", "Wait", "Refuse"])
def test_what_is_refused(asked: str, reason: str) -> None:
    wanted = {"Auto": IMPOSSIBLE, "Wait": (), "Refuse": (*IMPOSSIBLE, *PERHAPS)}[asked]
    assert refuses(request(when_unavailable=asked), CapacityVerdict(reason, "")) == (reason in wanted)


@given(
    boards=st.lists(st.integers(0, 8), max_size=6),
    held=st.lists(st.tuples(st.integers(0, 6), st.integers(1, 8)), max_size=8),
    count=st.integers(1, 8),
)
def test_fits_is_what_a_scheduler_could_place(
    boards: list[int], held: list[tuple[int, int]], count: int
) -> None:
    nodes = [node(f"n{number}", offered) for number, offered in enumerate(boards)]
    verdict = judged(*nodes, holds=tuple(hold(size, on=f"n{where}") for where, size in held), count=count)
    left = {f"n{number}": offered for number, offered in enumerate(boards) if offered >= count}
    for where, size in held:
        if f"n{where}" in left:
            left[f"n{where}"] = max(0, left[f"n{where}"] - size)
    placed = 0
    while any(size >= count for size in left.values()):
        left[max(left, key=lambda name: left[name])] -= count
        placed += 1
    assert verdict.fits == placed
    assert verdict.message
