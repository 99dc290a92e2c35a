"""What is read of nodes and devices: how much of it, how often, and within what the operator may see."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from serval_operator.api.nodes import NodeView
from serval_operator.api.resources import CONFIG_MAPS, DEVICE_CLASSES, EVENTS, NODE_CLAIMS, PODS
from serval_operator.api.snapshots import PodView, parse_pod
from serval_operator.cluster.capacity import Growth, Supply
from serval_operator.cluster.capacity_reader import FEW_NODES, GROWTH_KEPT, HOLDS_KEPT, ClusterSupplier
from serval_operator.errors import Forbidden, KubeError, Transient
from serval_operator.runtime.access_review import Access
from support import gen
from support.fakes import Call, FakeKubeApi
from unit.operator.cluster.capacity_rows import BOARD, node

pytestmark = pytest.mark.unit

ALL = Access(nodes=True, pods=True, autoscaler=True, node_claims=True, device_classes=True)
WAITING = parse_pod(gen.pod("digits-1", gen.unschedulable("0/1 nodes are available")))


class Place:
    """A cluster of which a supplier reads."""

    def __init__(self, access: Access = ALL, *nodes: NodeView) -> None:
        self.api = FakeKubeApi()
        self.seconds = 100.0
        self._nodes = nodes or (node(), node("n2", None))
        self.access = access
        self.supplier = ClusterSupplier(
            self.api, self, lambda: self.access, lambda: gen.moment(self.seconds), lambda: self.seconds
        )

    def nodes(self) -> tuple[NodeView, ...]:
        return self._nodes

    async def supply(self, *, with_holds: bool = True, waiting: tuple[PodView, ...] = ()) -> Supply:
        return await self.supplier.supply(BOARD, with_holds=with_holds, waiting=waiting)

    def lists(self, plural: str) -> list[Call]:
        return [one for one in self.api.calls if one.resource.plural == plural]

    def put_holder(self, name: str = "held", *options: gen.Option, on: str = "n1") -> None:
        pod = gen.pod(name, gen.placed(on), *options)
        pod["spec"]["containers"] = [{"resources": {"limits": {BOARD: "1"}}}]
        self.api.put(PODS, pod)

    def tell(self, reason: str, message: str, *, seen: float, of: PodView = WAITING) -> None:
        event = {
            "metadata": {"name": f"{reason}.{seen}", "namespace": of.namespace},
            "involvedObject": {"uid": of.uid},
            "type": "Normal",
            "reason": reason,
            "message": message,
            "lastTimestamp": gen.stamp(seen),
        }
        self.api.put(EVENTS, event)


async def test_holds_are_counted_on_device_nodes() -> None:
    place = Place()
    place.put_holder()
    found = await place.supply()
    assert found.holds is not None
    assert [(one.node, one.amounts) for one in found.holds] == [("n1", {BOARD: 1})]
    assert len(place.lists("pods")) == 1, "the node without devices was looked at too"


async def test_a_pod_that_is_being_deleted_holds_its_device_until_it_is_gone() -> None:
    place = Place()
    place.put_holder("stays")
    place.put_holder("ends", gen.deleting)
    found = await place.supply()
    assert {one.name: one.deleting for one in found.holds or ()} == {"stays": False, "ends": True}


async def test_many_device_nodes_are_asked_for_at_once() -> None:
    place = Place(ALL, *(node(f"n{number}") for number in range(FEW_NODES + 1)))
    place.put_holder(on="n7")
    found = await place.supply()
    assert found.holds is not None
    assert [one.node for one in found.holds] == ["n7"]
    assert len(place.lists("pods")) == 1


async def test_who_asks_together_asks_once_and_an_answer_ages() -> None:
    place = Place()
    await asyncio.gather(*(place.supply() for _ in range(20)))
    assert len(place.lists("pods")) == 1
    place.seconds += HOLDS_KEPT - 0.1
    await place.supply()
    assert len(place.lists("pods")) == 1
    place.put_holder()
    place.seconds += 0.2
    found = await place.supply()
    assert found.holds, "an old answer was given"
    assert len(place.lists("nodeclaims")) == 1
    place.seconds += GROWTH_KEPT
    await place.supply()
    assert len(place.lists("nodeclaims")) == 2


async def test_a_fresh_answer_is_asked_for_once_by_all_who_came_before_it() -> None:
    place = Place()
    await place.supply()
    place.seconds += 0.1
    await asyncio.gather(*(place.supplier.supply(BOARD, with_holds=True, fresh=True) for _ in range(5)))
    assert len(place.lists("pods")) == 2
    place.seconds += 0.1
    await place.supplier.supply(BOARD, with_holds=True, fresh=True)
    assert len(place.lists("pods")) == 3


async def test_who_waits_for_a_count_that_fails_does_not_wait_for_another_one() -> None:
    """With a request for each of them, the last of twelve would wait for twelve time limits."""
    place = Place()

    def fail(call: Call) -> None:
        if call.resource is PODS:
            raise Transient(0, "Timeout", "no answer in time")

    place.api.on_call = fail
    results = await asyncio.gather(*(place.supply() for _ in range(12)), return_exceptions=True)
    assert [type(result) for result in results] == [Transient] * 12
    assert len(place.lists("pods")) == 1


async def test_a_count_that_fails_is_made_again() -> None:
    place = Place()

    def fail(call: Call) -> None:
        if call.resource is PODS:
            raise Transient(500, "InternalError", "no")

    place.api.on_call = fail
    with pytest.raises(Transient):
        await place.supply()
    place.api.on_call = lambda _: None
    assert (await place.supply()).holds == ()


async def test_nobody_counts_where_nobody_asked() -> None:
    place = Place()
    assert (await place.supply(with_holds=False)).holds is None
    assert not place.lists("pods")


async def test_what_may_not_be_seen_is_not_asked_for() -> None:
    place = Place(Access())
    assert (await place.supply()).nodes is None
    assert not place.api.calls
    place = Place(Access(nodes=True))
    found = await place.supply(waiting=(WAITING,))
    assert found.nodes
    assert found.holds is None
    assert {one.resource for one in place.api.calls} == {EVENTS}


async def test_where_nodes_may_not_be_seen_events_still_tell_of_a_node_that_comes() -> None:
    place = Place(Access())
    place.tell("TriggeredScaleUp", "one more", seen=90)
    found = await place.supply(waiting=(WAITING,))
    assert (found.nodes, found.growth) == (None, Growth(coming="one more"))
    assert {one.resource for one in place.api.calls} == {EVENTS}


async def test_rights_that_come_later_count() -> None:
    place = Place(Access())
    assert (await place.supply()).nodes is None
    place.access = ALL
    found = await place.supply()
    assert found.nodes
    assert found.holds is not None
    place.access = Access()
    assert (await place.supply()).nodes is None


async def test_node_claims_are_found_once_their_kind_exists() -> None:
    place = Place()
    absent = KubeError(404, "NotFound", "no such kind")

    def fail(call: Call) -> None:
        if call.resource == NODE_CLAIMS:
            raise absent

    place.api.on_call = fail
    assert not (await place.supplier.supply("nvidia.com/gpu", with_holds=False)).growth.possible
    place.api.on_call = lambda _: None
    place.seconds += GROWTH_KEPT + 1
    assert "Karpenter" in (await place.supplier.supply("nvidia.com/gpu", with_holds=False)).growth.possible
    assert len(place.lists("nodeclaims")) == 2


TOLD = {
    "ordered": ([("TriggeredScaleUp", "one more", 90)], "one more", ""),
    "by Karpenter": ([("Nominated", "on node claim x", 90)], "on node claim x", ""),
    "declined": ([("NotTriggerScaleUp", "max size reached", 90)], "", "max size reached"),
    "declined, then ordered": (
        [("NotTriggerScaleUp", "max", 60), ("TriggeredScaleUp", "one more", 90)],
        "one more",
        "",
    ),
    "ordered, then declined": (
        [("TriggeredScaleUp", "one more", 60), ("NotTriggerScaleUp", "max", 90)],
        "",
        "max",
    ),
    "something else": ([("Scheduled", "on n1", 90)], "", ""),
    "nothing": ([], "", ""),
}


@pytest.mark.parametrize(("events", "coming", "refused"), TOLD.values(), ids=TOLD)
async def test_what_autoscalers_say_of_a_pod(
    events: list[tuple[str, str, float]], coming: str, refused: str
) -> None:
    place = Place()
    for reason, message, seen in events:
        place.tell(reason, message, seen=seen)
    growth = (await place.supply(waiting=(WAITING,))).growth
    assert (growth.coming, growth.refused) == (coming, refused)


async def test_an_order_that_brought_nothing_in_time_is_forgotten() -> None:
    place = Place()
    place.tell("TriggeredScaleUp", "one more", seen=90)
    place.seconds += 16 * 60
    assert (await place.supply(waiting=(WAITING,))).growth.coming == ""


async def test_one_pod_tells_for_all() -> None:
    place = Place()
    others = tuple(parse_pod(gen.pod(f"digits-{number}", gen.unschedulable("no"))) for number in range(2, 9))
    await place.supply(waiting=(*others, WAITING))
    assert len(place.lists("events")) == 1


@pytest.mark.parametrize("error", [KubeError(404, "NotFound", ""), Forbidden(403, "Forbidden", "")])
async def test_autoscalers_that_are_not_there_cost_no_answer(error: KubeError) -> None:
    place = Place()
    place.put_holder()

    def fail(call: Call) -> None:
        if call.resource in (NODE_CLAIMS, DEVICE_CLASSES, CONFIG_MAPS, EVENTS):
            raise error

    place.api.on_call = fail
    found = await place.supply(waiting=(WAITING,))
    assert found.holds
    assert found.growth.possible == ""


async def test_everything_around_is_read() -> None:
    place = Place()
    claims: dict[str, Any] = {
        "metadata": {"name": "c"},
        "spec": {"resources": {"requests": {BOARD: "1"}}},
    }
    place.api.put(NODE_CLAIMS, claims)
    place.api.put(
        DEVICE_CLASSES, {"metadata": {"name": "d"}, "spec": {"extendedResourceName": "example.com/other"}}
    )
    groups = {"status": "nodeGroups: [{name: empty, health: {maxSize: 3}}]"}
    meta = {"name": "cluster-autoscaler-status", "namespace": "kube-system"}
    place.api.put(CONFIG_MAPS, {"metadata": meta, "data": groups})
    found = await place.supply()
    assert found.growth.coming == f"node claim c of Karpenter brings a node with {BOARD}"
    assert "empty" in found.growth.possible
    assert "example.com/other" in found.claimable
