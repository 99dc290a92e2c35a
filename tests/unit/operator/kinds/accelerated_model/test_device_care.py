"""Pods of AcceleratedModels that cannot use their devices: what is said, and whether one is moved."""

from __future__ import annotations

from typing import Any

import pytest

from serval_contract.metrics import EMULATED_DEVICE
from serval_operator.api.device_holders import PodHold
from serval_operator.api.naming import Key
from serval_operator.api.placement import Placement
from serval_operator.api.resources import CONTROLLER_REVISIONS
from serval_operator.api.rivals import Claim, Rival
from serval_operator.pods.device_faults import SHARED
from serval_operator.pods.device_moves import NOTHING_FREE, ONE_AT_A_TIME, PATIENCE, REPLACED
from serval_operator.pods.device_report import Answer, DeviceReport
from support import gen
from unit.operator.kinds.accelerated_model.world import FEATURIZER, NAME, RESOURCE, World, converted, node

pytestmark = pytest.mark.unit

SICK = Answer(
    True,
    DeviceReport(
        frozenset({EMULATED_DEVICE}),
        in_use=False,
        engine="emulator",
        healthy=False,
        fault="the device is unhealthy: too hot",
    ),
)
WELL = Answer(True, DeviceReport(frozenset({EMULATED_DEVICE}), in_use=False, engine="emulator"))
HELD = "E0000 cannot load eyes: Unavailable: DeviceHeld: unit fpga-0 is held by net-a"


def world(*options: gen.Option, units: int = 1, count: int = 1, **spec: Any) -> World:
    """A model whose pods have this state, on a node with so many devices."""
    made = World(**FEATURIZER, replicas=count, **spec)
    made.nodes = (node(**{RESOURCE: str(units)}),)
    converted(made)
    made.serve(gen.placed(), gen.fetched(), *(options or (gen.ready(), gen.unready_since(20))), count=count)
    names = [pod["metadata"]["name"] for pod in made.pods if pod["metadata"]["uid"].startswith("uid-eyes-")]
    owner = Key("AcceleratedModel", gen.NAMESPACE, NAME)
    served = [name for name in names if "serval.dev/job" not in _labels(made, name)]
    made.holds = tuple(PodHold(gen.NAMESPACE, name, gen.NODE, owner, {RESOURCE: 1}) for name in served)
    made.devices = {f"uid-{name}": SICK for name in served}
    made.seconds = 100.0
    return made


def _labels(made: World, name: str) -> dict[str, str]:
    (found,) = [pod["metadata"]["labels"] for pod in made.pods if pod["metadata"]["name"] == name]
    return dict(found)


def waiter() -> Rival:
    """An older object that waits for a device."""
    return Rival(
        key=Key("ModelDeployment", gen.NAMESPACE, "other"),
        uid="other",
        generation=1,
        created=gen.moment(-100),
        claim=Claim(placement=Placement(RESOURCE, 1), wanted=1),
    )


def pods(made: World) -> list[str]:
    """Names of pods that were deleted."""
    return [name for name in made.deleted if any(pod["metadata"]["name"] == name for pod in made.pods)]


def test_an_unhealthy_device_is_named_everywhere() -> None:
    made = world()
    made.look()
    pod = made.pods[-1]["metadata"]["name"]
    text = f"1 of 1 pods: pod {pod} on node {gen.NODE}: the device is unhealthy: too hot; {NOTHING_FREE}"
    for kind in ("Ready", "DeviceProgrammed", "ModelLoaded"):
        assert made.condition(kind) == ("False", "DeviceUnhealthy", text)
    assert made.condition("Available")[0] == "False"
    assert made.condition("Stalled")[0] == ""
    assert pods(made) == []
    assert "deviceMoves" not in made.status
    assert made.judgement.again == 30.0


def test_nothing_is_said_of_a_pod_that_is_ready_again() -> None:
    made = world(gen.ready())
    made.look()
    assert made.condition("Ready")[:2] == ("True", "Serving")
    assert made.condition("DeviceProgrammed")[:2] == ("True", "Emulated")


def test_it_is_moved_once_where_a_device_is_free_and_the_next_time_after_a_pause() -> None:
    made = world(units=2)
    made.seconds = 30.0
    made.look()
    assert pods(made) == []
    assert PATIENCE in made.condition("Ready")[2]
    assert made.judgement.again == 20.0
    made.seconds = 50.0
    made.look()
    pod = made.pods[-1]["metadata"]["name"]
    assert pods(made) == [pod]
    assert REPLACED in made.condition("Ready")[2]
    ((reason, words),) = made.judgement.warnings
    assert reason == "PodMoved"
    assert "too hot" in words
    assert made.status["deviceMoves"] == {"count": 1, "lastTime": gen.stamp(50), "pod": pod, "node": gen.NODE}
    # Its successor got a device that is of no use either.
    made.seconds = 100.0
    made.look()
    assert pods(made) == [pod], "the pause is not over"
    assert "1 pod was replaced for a device already" in made.condition("Ready")[2]
    assert made.judgement.again == 10.0
    made.seconds = 110.0
    made.look()
    assert pods(made) == [pod, pod]
    assert made.status["deviceMoves"]["count"] == 2
    made.seconds = 3711.0
    made.devices = {}
    made.serve(gen.ready())
    made.look()
    assert "deviceMoves" not in made.status


def test_one_pod_at_a_time() -> None:
    made = world(units=9, count=2)
    made.look()
    (first,) = pods(made)
    stopped = next(pod for pod in made.pods if pod["metadata"]["name"] == first)
    gen.stopping(200.0)(stopped)
    made.seconds = 400.0
    made.look()
    assert pods(made) == [first]
    assert ONE_AT_A_TIME in made.condition("Ready")[2]


def test_not_while_its_successor_starts() -> None:
    made = world(units=9, count=2)
    starting = made.pods[-1]
    made.devices.pop(starting["metadata"]["uid"])
    gen.loading()(starting)
    made.look()
    assert pods(made) == []
    assert ONE_AT_A_TIME in made.condition("Ready")[2]


def test_what_is_free_is_for_those_who_wait() -> None:
    made = world(units=2)
    made.rivals = (waiter(),)
    made.look()
    assert pods(made) == []
    assert NOTHING_FREE in made.condition("Ready")[2]
    made.nodes = (node(**{RESOURCE: "3"}),)
    made.look()
    assert len(pods(made)) == 1


def test_where_nobody_counted_the_devices_no_pod_is_moved() -> None:
    made = world(units=2)
    made.holds = None
    made.look()
    assert pods(made) == []
    assert "is not known" in made.condition("Ready")[2]


def test_a_device_that_another_pod_holds_is_a_fault_of_the_plugin_and_not_of_the_model() -> None:
    made = world(gen.server_crashed(1, HELD), rollout={"onFailure": "Revert", "startDeadlineSeconds": 60})
    made.devices = {}
    made.pods[-1]["status"]["containerStatuses"][0]["restartCount"] = 9
    made.seconds = 1000.0
    made.look()
    status, reason, message = made.condition("Ready")
    assert (status, reason) == ("False", "DeviceHeld")
    for words in (f"on node {gen.NODE}", "unit fpga-0 is held by net-a", SHARED, NOTHING_FREE):
        assert words in message
    assert made.condition("DeviceProgrammed")[:2] == ("False", "DeviceHeld")
    assert _given_up(made) == [], "no other revision would fare better"


def test_a_pod_without_its_device_is_moved_as_well() -> None:
    made = world(gen.server_crashed(1, HELD), units=2)
    made.devices = {}
    made.look()
    assert len(pods(made)) == 1
    assert made.status["deviceMoves"]["count"] == 1


def test_a_revision_whose_device_is_unhealthy_from_the_start_has_not_failed() -> None:
    made = world(gen.loading(), rollout={"onFailure": "Revert", "startDeadlineSeconds": 60})
    made.seconds = 1000.0
    made.look()
    assert made.condition("Ready")[:2] == ("False", "DeviceUnhealthy")
    assert _given_up(made) == []
    made.devices = dict.fromkeys(made.devices, WELL)
    assert _given_up(made) != [], "one that is late for another cause has"


def test_a_suspended_model_moves_nothing() -> None:
    made = world(units=2)
    made.edit(suspend=True)
    made.look()
    assert pods(made) == []


def test_an_unusable_spec_keeps_the_record() -> None:
    made = world(units=2)
    made.look()
    before = made.status["deviceMoves"]
    made.edit(featurizer=None)
    made.look()
    assert made.status["deviceMoves"] == before


def _given_up(made: World) -> list[str]:
    """Revisions that a plan marks as failed."""
    return [patch.target.name for patch in made.plan().patches if patch.resource is CONTROLLER_REVISIONS]
