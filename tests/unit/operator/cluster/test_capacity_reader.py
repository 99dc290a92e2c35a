"""What is read of nodes and devices: how much of it, how often, and within what the operator may see."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from serval_operator.api import naming
from serval_operator.api.nodes import NodeView
from serval_operator.api.resources import (
    CONFIG_MAPS,
    DEVICE_CLASSES,
    EVENTS,
    NODE_CLAIMS,
    PODS,
    Resource,
)
from serval_operator.api.snapshots import PodView, parse_pod
from serval_operator.cluster import autoscaler_reader
from serval_operator.cluster.autoscaler_reader import GROWTH_KEPT, READS_PER_SECOND
from serval_operator.cluster.capacity import Growth, Supply
from serval_operator.cluster.capacity_reader import ClusterSupplier
from serval_operator.cluster.holds_reader import ASKED_FOR, FEW_NODES, HOLDS_KEPT
from serval_operator.errors import Forbidden, KubeError, Transient
from serval_operator.runtime.access_review import Access
from serval_operator.runtime.kube_api import Listing
from support import gen
from support.fakes import Call, FakeKubeApi
from unit.operator.cluster.capacity_rows import BOARD, node

pytestmark = pytest.mark.unit

ALL = Access(nodes=True, pods=True, autoscaler=True, node_claims=True, device_classes=True)
WAITING = parse_pod(gen.pod("digits-1", gen.unschedulable("0/1 nodes are available")))
LATE = Transient(0, "Timeout", "no answer in time")


class Place:
    """A cluster of which a supplier reads.

    Attributes
    ----------
    selectors:
        Field selector of each listing of pods.
    hanging:
        What listings of pods wait for, if anything.
    late:
        How often the supplier said that it knows by now what it did not know.
    gone:
        Names of pods whose deletion was reported.
    """

    def __init__(self, access: Access = ALL, *nodes: NodeView, patience: float = 5.0) -> None:
        self.api = FakeKubeApi()
        self.seconds = 100.0
        self.access = access
        self.selectors: list[str] = []
        self.hanging: asyncio.Event | None = None
        self.late = 0
        self.gone: set[str] = set()
        self.seen = nodes or (node(), node("n2", None))
        self.supplier = ClusterSupplier(
            self,  # type: ignore[arg-type]  # the calls that it makes
            self,
            lambda: self.access,
            lambda: gen.moment(self.seconds),
            lambda: self.seconds,
            self._came,
            patience=patience,
        )
        self.get, self.list = self.api.get, self.api.list

    async def list_as(self, convert: Any, resource: Resource, *, field_selector: str) -> Listing[Any]:
        self.selectors.append(field_selector)
        if self.hanging:
            await self.hanging.wait()
        return await self.api.list_as(convert, resource, field_selector=field_selector)

    def _came(self) -> None:
        self.late += 1

    def has_let_go(self, place: naming.Place) -> bool:
        return place.name in self.gone

    def nodes(self) -> tuple[NodeView, ...]:
        return self.seen

    async def supply(
        self, resource: str = BOARD, *, with_holds: bool = True, waiting: tuple[PodView, ...] = ()
    ) -> Supply:
        return await self.supplier.supply(resource, with_holds=with_holds, waiting=waiting)

    def lists(self, plural: str) -> list[Call]:
        return [one for one in self.api.calls if one.resource.plural == plural]

    def put_holder(
        self, name: str = "held", *options: gen.Option, on: str = "n1", resource: str = BOARD
    ) -> None:
        pod = gen.pod(name, gen.placed(on), *options)
        pod["spec"]["containers"] = [{"resources": {"limits": {resource: "1"}}}]
        self.api.put(PODS, pod)

    def fail(self, error: KubeError, *resources: Resource) -> None:
        """Requests for these kinds fail from now on."""

        def check(call: Call) -> None:
            if call.resource in resources:
                raise error

        self.api.on_call = check

    def tell(self, reason: str, message: str, *, seen: float, of: PodView = WAITING) -> None:
        event = {
            "metadata": {"name": f"{of.name}.{reason}.{seen}", "namespace": of.namespace},
            "involvedObject": {"uid": of.uid},
            "type": "Normal",
            "reason": reason,
            "message": message,
            "lastTimestamp": gen.stamp(seen),
        }
        self.api.put(EVENTS, event)


async def test_a_pod_whose_end_was_reported_holds_nothing_though_it_was_listed_before() -> None:
    place = Place()
    place.put_holder("old")
    place.put_holder("other")
    await place.supply()
    place.gone = {"old"}
    found = await place.supply()
    assert [one.name for one in found.holds or ()] == ["other"]
    assert len(place.selectors) == len(set(place.selectors)), "they were listed anew"


async def test_a_count_that_is_on_its_way_is_late_and_one_that_fails_is_not() -> None:
    place = Place(patience=0.01)
    place.hanging = asyncio.Event()
    late = await place.supply()
    assert (late.holds, late.late) == (None, True)
    failing = Place()
    failing.fail(LATE, PODS)
    failed = await failing.supply()
    assert (failed.holds, failed.late) == (None, False)


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


class TestListings:
    """Which pods are listed."""

    ENI = "vpc.amazonaws.com/pod-eni"

    async def test_many_device_nodes_are_asked_for_at_once(self) -> None:
        place = Place(ALL, *(node(f"n{number}") for number in range(FEW_NODES + 1)))
        place.put_holder(on="n7")
        found = await place.supply()
        assert found.holds is not None
        assert [one.node for one in found.holds] == ["n7"]
        assert len(place.selectors) == 1

    async def test_nodes_with_other_resources_do_not_count(self) -> None:
        others = (node(f"other-{number}", resource=self.ENI) for number in range(200))
        place = Place(ALL, node(), *others)
        place.put_holder()
        place.put_holder("other", on="other-1", resource=self.ENI)
        found = await place.supply()
        assert found.holds is not None
        assert [one.name for one in found.holds] == ["held"]
        assert [one.rpartition("=")[2] for one in place.selectors] == ["n1"]

    async def test_nodes_whose_device_is_not_healthy_count(self) -> None:
        place = Place(ALL, node(boards=0, known=2))
        place.put_holder()
        assert (await place.supply()).holds
        place.selectors.clear()
        place.seen = (node(boards=0, known=0),)
        assert (await place.supply()).holds == ()
        assert not place.selectors

    async def test_a_resource_that_no_node_has_lists_nothing(self) -> None:
        place = Place()
        assert (await place.supply("example.com/none")).holds == ()
        assert not place.selectors

    async def test_resources_of_one_node_share_a_listing(self) -> None:
        both = replace(node(), allocatable={BOARD: 1, self.ENI: 1})
        place = Place(ALL, both)
        place.put_holder()
        place.put_holder("other", resource=self.ENI)
        found = [await place.supply(resource) for resource in (BOARD, self.ENI)]
        assert [[hold.name for hold in one.holds or ()] for one in found] == [["held"], ["other"]]
        assert len(place.selectors) == 1

    async def test_many_resources_with_few_nodes_each_share_a_listing_of_all(self) -> None:
        names = [f"example.com/board-{number}" for number in range(FEW_NODES + 1)]
        place = Place(ALL, *(node(f"n{number}", resource=name) for number, name in enumerate(names)))
        for name in names:
            await place.supply(name)
        assert len(place.selectors) == FEW_NODES + 1
        place.selectors.clear()
        place.seconds += HOLDS_KEPT + 0.1
        for name in names:
            await place.supply(name)
        assert len(place.selectors) == 1
        assert place.selectors[0].endswith("spec.nodeName!=")

    async def test_a_resource_that_is_not_asked_for_any_more_does_not_count(self) -> None:
        few = [node(f"n{number}") for number in range(FEW_NODES)]
        place = Place(ALL, *few, node("other", resource=self.ENI))
        await place.supply(self.ENI)
        await place.supply()
        assert place.selectors[1:] == ["status.phase!=Succeeded,status.phase!=Failed,spec.nodeName!="]
        place.seconds += ASKED_FOR + 0.1
        place.selectors.clear()
        await place.supply()
        assert len(place.selectors) == FEW_NODES


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


class TestLate:
    """No reconcile waits long for what is free, and none fails."""

    ERRORS = (Transient(500, "InternalError", "no"), Forbidden(403, "Forbidden", "no"), KubeError(0, "", ""))

    @pytest.mark.parametrize("error", ERRORS)
    async def test_a_listing_that_fails_costs_the_holds_only(self, error: KubeError) -> None:
        place = Place()
        place.fail(error, PODS)
        found = await place.supply()
        assert found.nodes
        assert found.holds is None
        assert place.supplier.faults() == {"pods": 1, "autoscalers": 0}
        place.api.on_call = lambda _: None
        place.seconds += HOLDS_KEPT
        assert (await place.supply()).holds == ()
        assert place.supplier.faults()["pods"] == 0
        assert place.late == 1

    @pytest.mark.parametrize("fresh", [False, True])
    async def test_a_listing_that_takes_long_goes_on_for_later_callers(self, fresh: bool) -> None:
        place = Place(patience=0.01)
        place.hanging = asyncio.Event()
        place.put_holder()
        found = await place.supplier.supply(BOARD, with_holds=True, fresh=fresh)
        assert found.nodes
        assert found.holds is None
        place.hanging.set()
        await asyncio.wait([task for task in asyncio.all_tasks() if task is not asyncio.current_task()])
        assert (await place.supply()).holds
        assert len(place.selectors) == 1
        assert place.late == (not fresh)

    async def test_one_node_that_is_not_known_leaves_all_unknown(self) -> None:
        place = Place(ALL, node(), node("n2"))
        await place.supply()
        place.seen = (*place.seen, node("n3"))
        place.fail(LATE, PODS)
        assert (await place.supply()).holds is None
        place.seen = place.seen[:2]
        assert (await place.supply()).holds == ()
        assert place.supplier.faults()["pods"] == 0, "a listing that is not made any more counts as failing"

    async def test_autoscalers_that_do_not_answer(self) -> None:
        place = Place(patience=0.01)
        place.list = place.get = hang  # type: ignore[assignment]
        found = await place.supply(waiting=(WAITING,))
        assert found.holds == ()
        assert found.growth == Growth()

    async def test_a_fault_of_autoscalers_that_lasts_is_logged_once(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        place = Place()
        place.fail(LATE, NODE_CLAIMS, EVENTS)
        for _ in range(3):
            await place.supply(waiting=(WAITING,))
            place.seconds += 60
        assert caplog.messages == [f"what autoscalers say is not known: {LATE}"]
        assert place.supplier.faults() == {"pods": 0, "autoscalers": 1}
        place.api.on_call = lambda _: None
        await place.supply(waiting=(WAITING,))
        assert place.supplier.faults()["autoscalers"] == 0


async def hang(*_: object, **__: object) -> None:
    """A request without an answer."""
    await asyncio.Event().wait()


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


class TestRateOfEvents:
    """Each read of events makes the API server look through a namespace."""

    async def test_one_pod_is_read_at_each_look(self) -> None:
        place = Place()
        assert (await place.supply(waiting=(WAITING,))).growth.coming == ""
        place.tell("TriggeredScaleUp", "one more", seen=90)
        assert (await place.supply(waiting=(WAITING,))).growth.coming == "one more"
        assert len(place.lists("events")) == 2

    async def test_pods_that_are_not_asked_about_any_more_take_no_share(self) -> None:
        place = Place()
        for number in range(50):
            pod = parse_pod(gen.pod(f"digits-{number}", gen.unschedulable("no")))
            await place.supply(waiting=(pod,))
        place.seconds += autoscaler_reader.ASKED_FOR.total_seconds() + 1
        before = len(place.lists("events"))
        for _ in range(3):
            await place.supply(waiting=(WAITING,))
        assert len(place.lists("events")) == before + 3

    async def test_many_pods_are_read_one_after_another(self) -> None:
        place = Place()
        pods = [parse_pod(gen.pod(f"digits-{number}", gen.unschedulable("no"))) for number in range(50)]
        for pod in pods:
            place.tell("TriggeredScaleUp", f"for {pod.name}", seen=90, of=pod)
        for second in range(5):
            told = [(await place.supply(waiting=(pod,))).growth.coming for pod in pods]
            known = READS_PER_SECOND * (second + 1)
            assert told == [f"for {pod.name}" for pod in pods[:known]] + [""] * (len(pods) - known)
            place.seconds += 1
        assert len(place.lists("events")) == len(pods)

    async def test_what_was_read_last_counts_while_nothing_can_be_read(self) -> None:
        place = Place()
        place.tell("TriggeredScaleUp", "one more", seen=90)
        await place.supply(waiting=(WAITING,))
        place.seconds += 60
        place.fail(LATE, EVENTS)
        assert (await place.supply(waiting=(WAITING,))).growth.coming == "one more"


async def test_one_pod_tells_for_all() -> None:
    place = Place()
    others = tuple(parse_pod(gen.pod(f"digits-{number}", gen.unschedulable("no"))) for number in range(2, 9))
    await place.supply(waiting=(*others, WAITING))
    assert len(place.lists("events")) == 1


@pytest.mark.parametrize("error", [KubeError(404, "NotFound", ""), Forbidden(403, "Forbidden", "")])
async def test_autoscalers_that_are_not_there_cost_no_answer(error: KubeError) -> None:
    place = Place()
    place.put_holder()

    place.fail(error, NODE_CLAIMS, DEVICE_CLASSES, CONFIG_MAPS, EVENTS)
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
