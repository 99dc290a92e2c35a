"""The index of all objects that ask for devices: who is in it, who is woken, and what it costs."""

from __future__ import annotations

from typing import Any

import pytest

from serval_operator.api.naming import Key
from serval_operator.api.resources import DEPLOYMENTS, MODEL_DEPLOYMENTS, PODS, PRIORITY_CLASSES
from serval_operator.cluster.priority_reader import MISSING_AGAIN, PriorityReader
from serval_operator.errors import Transient
from serval_operator.kinds.model_deployment import KIND
from serval_operator.reconcile.contest import Contest
from serval_operator.runtime.access_review import Access
from serval_operator.runtime.cache import Cache
from support import gen
from support.fakes import Call, FakeKubeApi
from support.watched import OWNERS
from unit.operator.configuration import CONFIGURATION

pytestmark = pytest.mark.unit

GPU = {"profile": "nvidia-gpu"}
RECORD = {"generation": 1, "kind": "ModelDeployment", "name": "held", "uid": "held", "targetGeneration": 1}


def key(name: str) -> Key:
    return Key("ModelDeployment", gen.NAMESPACE, name)


class Room:
    """A contest over a cache that is told of objects as a watch would tell.

    Attributes
    ----------
    woken:
        Names of objects that were woken.
    """

    def __init__(self) -> None:
        self.api = FakeKubeApi()
        self.cache = Cache(OWNERS)
        self.woken: list[str] = []
        self.seconds = 0.0
        self.version = 1000
        access = Access(priority_classes=True)
        self.reader = PriorityReader(self.api, lambda: access, lambda: self.seconds)
        self.contest = Contest(
            self.cache,
            {KIND.resource.kind: KIND.claim},
            CONFIGURATION,
            self.reader,
            lambda one: self.woken.append(one.name),
            lambda: gen.moment(self.seconds),
        )

    def seen(self, resource: Any, kind: str, obj: dict[str, Any]) -> None:
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        for one in self.cache.store(resource).observe(kind, obj):
            self.contest.touch(one)
        self.contest.catch_up()

    def model(self, name: str, event: str = "ADDED", **spec: Any) -> None:
        made = gen.model(name, uid=name, **{"accelerator": GPU, **spec})
        self.seen(MODEL_DEPLOYMENTS, event, made)

    def pod(self, owner: str, event: str = "ADDED") -> None:
        self.seen(PODS, event, gen.pod(f"{owner}-0", gen.placed(), owner=owner, uid=owner))

    def holder(self, name: str) -> None:
        self.model(name)
        self.seen(DEPLOYMENTS, "ADDED", gen.deployment(name=name, owner=name))
        self.pod(name)
        self.woken.clear()


def test_one_alone_asks_nothing_until_its_pod_waits() -> None:
    room = Room()
    room.model("one")
    assert not room.contest.outlook(key("one")).contended
    pod = gen.pod("one-0", gen.unschedulable("no"), owner="one", uid="one")
    room.seen(PODS, "ADDED", pod)
    assert room.contest.outlook(key("one")).contended


def test_one_that_lacks_a_pod_beside_others_looks_at_the_queue() -> None:
    room = Room()
    room.holder("held")
    room.model("next")
    assert room.contest.outlook(key("next")).contended
    assert not room.contest.outlook(key("held")).contended


async def test_objects_without_devices_leave_no_trace() -> None:
    room = Room()
    room.model("plain", accelerator=None)
    room.model("on-cpu", accelerator={"profile": "cpu"})
    for name in ("plain", "on-cpu"):
        assert not room.contest.outlook(key(name)).contended
    assert (await room.contest.rivals("nvidia.com/gpu")).rivals == ()
    assert room.api.calls == []


@pytest.mark.parametrize("first", ["pod", "model"])
def test_the_end_of_a_pod_wakes_those_that_wait(first: str) -> None:
    """Also where the object itself went before its pod, and nobody asks for anything any more."""
    room = Room()
    room.holder("held")
    room.model("next")
    room.woken.clear()
    if first == "model":
        room.model("held", "DELETED")
        room.woken.clear()
    room.pod("held", "DELETED")
    assert room.woken == ["next"]


def test_more_of_the_same_wakes_nobody() -> None:
    room = Room()
    room.holder("held")
    room.model("next")
    room.model("third")
    assert room.woken == []


def test_one_that_was_replaced_hears_of_it() -> None:
    room = Room()
    room.holder("held")
    room.model("taker", status={"replacement": RECORD})
    assert room.woken == ["held"]
    assert room.contest.outlook(key("held")).replaced_by == key("taker")
    room.model("held", "MODIFIED", generation=2)
    assert room.contest.outlook(key("held")).replaced_by is None


def test_one_that_was_replaced_is_free_when_the_other_wants_nothing_any_more() -> None:
    room = Room()
    room.holder("held")
    room.model("taker", status={"replacement": RECORD})
    room.model("taker", "MODIFIED", status={"replacement": RECORD}, suspend=True, generation=2)
    assert room.contest.outlook(key("held")).replaced_by is None
    room.woken.clear()
    room.model("taker", "DELETED")
    assert room.woken[-1] == "held"


async def test_priorities_are_read_once_a_minute_and_for_a_class_that_is_new() -> None:
    room = Room()
    room.api.put(PRIORITY_CLASSES, {"metadata": {"name": "low"}, "value": 5, "globalDefault": True})
    found = await room.reader.priorities([])
    assert (found.of("low"), found.of("high"), found.of("")) == (5, 5, 5)
    room.api.put(PRIORITY_CLASSES, {"metadata": {"name": "high"}, "value": 9})
    room.seconds = MISSING_AGAIN
    assert (await room.reader.priorities(["high"])).of("high") == 9
    room.seconds += MISSING_AGAIN
    calls = len(room.api.calls)
    await room.reader.priorities(["high"])
    assert len(room.api.calls) == calls


async def test_priorities_that_were_read_once_outlast_requests_that_fail() -> None:
    """If all counted as equal meanwhile, a more important object could be stopped for another one."""
    room = Room()
    room.api.put(PRIORITY_CLASSES, {"metadata": {"name": "high"}, "value": 9})

    def refuse(call: Call) -> None:
        raise Transient(503, "", call.verb)

    room.api.on_call = refuse
    assert not (await room.reader.priorities(["high"])).known
    room.seconds += 61
    room.api.on_call = lambda _: None
    assert (await room.reader.priorities(["high"])).of("high") == 9
    room.api.on_call = refuse
    room.seconds += 3600
    found = await room.reader.priorities(["high"])
    assert (found.known, found.of("high")) == (True, 9)


def _no_pods(name: str) -> dict[str, Any]:
    made = gen.deployment(name=name, owner=name)
    made["spec"]["replicas"] = 0
    return made


WAITS = {"type": "AcceleratorAvailable", "status": "False", "lastTransitionTime": gen.stamp(5)}


@pytest.mark.parametrize(
    ("accelerator", "kept"), [(GPU, True), ({**GPU, "count": 2}, False)], ids=["one", "several at once"]
)
async def test_what_says_that_an_object_waits_does_not_change_the_queue(
    accelerator: dict[str, Any], kept: bool
) -> None:
    """Else each of many that wait would let the whole queue be computed again. How long matters to few."""
    room = Room()
    room.model("first", accelerator=accelerator)
    room.model("next", accelerator=accelerator)
    before = await room.contest.rivals("nvidia.com/gpu")
    room.seen(DEPLOYMENTS, "ADDED", _no_pods("next"))
    room.model("next", "MODIFIED", accelerator=accelerator, status={"conditions": [WAITS]})
    after = await room.contest.rivals("nvidia.com/gpu")
    assert [one.since is not None for one in after.rivals] == [False, True]
    assert (after.memo is before.memo) is kept


async def test_what_changes_the_queue_lets_it_be_computed_again() -> None:
    room = Room()
    room.holder("held")
    room.model("next", scheduling={"priorityClassName": "high"})
    before = await room.contest.rivals("nvidia.com/gpu")
    room.pod("held", "DELETED")
    ended = await room.contest.rivals("nvidia.com/gpu")
    assert ended.memo is not before.memo
    room.api.put(PRIORITY_CLASSES, {"metadata": {"name": "high"}, "value": 5})
    room.seconds += 61
    room.model("next", "MODIFIED", scheduling={"priorityClassName": "high"}, status={"conditions": [WAITS]})
    assert (await room.contest.rivals("nvidia.com/gpu")).memo is not ended.memo
