"""Scarce GPUs on the real nodes: the holder is named, rollouts know what is free, refusals end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest
from examples.demo.model import TrainedModel

from e2e.stand import Stand
from e2e.traffic import steady_load
from serval_lab import Lab
from support.cluster import Object, condition
from support.ledger import provokes
from support.wait import until

GPU = {"profile": "nvidia-gpu"}
RESOURCE = "nvidia.com/gpu"
NODE = "gpu-0"
CHANGED = {"readiness": {"periodSeconds": 3}}


@contextmanager
def units(lab: Lab, number: int) -> Iterator[None]:
    """For a while the GPU node has so many devices."""
    device = lab.device(NODE, RESOURCE)
    before = device.state.units
    device.set_units(number)
    try:
        yield
    finally:
        device.set_units(before)


def allocatable(stand: Stand, number: int) -> None:
    """Wait until the node says that it has so many."""
    stand.cluster.until(
        f"{number} devices",
        "Node",
        None,
        NODE,
        lambda one: one["status"]["allocatable"].get(RESOURCE) == str(number),
    )


def most_dead(events: Iterable[Object]) -> int:
    """Greatest number of failed pods at a time, by their watch events."""
    most, dead = 0, set[str]()
    for event in events:
        pod = event["object"]
        failed = pod["status"].get("phase") == "Failed"
        if failed and event["type"] != "DELETED" and not pod["metadata"].get("deletionTimestamp"):
            dead.add(pod["metadata"]["uid"])
        else:
            dead.discard(pod["metadata"]["uid"])
        most = max(most, len(dead))
    return most


@provokes("AcceleratorBusy", "all GPUs are taken")
def test_the_holder_is_named_and_it_heals_when_it_lets_go(stand: Stand, cluster_lab: Lab) -> None:
    with units(cluster_lab, 1):
        allocatable(stand, 1)
        stand.create("first", accelerator=GPU)
        stand.serving("first")
        stand.create("second", accelerator=GPU)
        cr = stand.failing("second", "AcceleratorBusy")
        assert f"{stand.namespace}/first" in condition(cr, "Ready")["message"]
        assert cr["status"]["accelerator"]["holders"][0]["name"] == "first"
        stand.patch("first", replicas=0)
        stand.serving("second")


def test_a_rollout_in_place_where_no_device_is_free_and_a_surge_where_one_is(
    stand: Stand, cluster_lab: Lab
) -> None:
    with units(cluster_lab, 1):
        allocatable(stand, 1)
        stand.create("rolled", accelerator=GPU)
        stand.serving("rolled")
        stand.patch("rolled", probes=CHANGED)
        seen = story(stand, "rolled")
        assert seen["strategy"] == {"InPlace"}
        assert "AcceleratorBusy" not in seen["reasons"], "waiting for the predecessor's device is progress"
    with units(cluster_lab, 2):
        allocatable(stand, 2)
        stand.patch("rolled", probes={"readiness": {"periodSeconds": 4}})
        seen = story(stand, "rolled")
        assert seen["strategy"] == {"Surge"}
        assert seen["available"] == {"True"}, "a free device lay idle while nobody served"


def story(stand: Stand, name: str) -> dict[str, set[str]]:
    """What a ModelDeployment said from now until its newest spec serves."""
    told: dict[str, set[str]] = {"strategy": set(), "reasons": set(), "available": set()}

    def look() -> Object | None:
        found = stand.cluster.get("ModelDeployment", stand.namespace, name)
        assert found is not None
        ready = condition(found, "Ready")
        if ready.get("observedGeneration") != found["metadata"]["generation"]:
            return None
        told["strategy"].add(found["status"]["effective"]["strategy"])
        told["reasons"].add(ready["reason"])
        told["available"].add(condition(found, "Available")["status"])
        return found if ready["status"] == "True" else None

    until(f"{name} serving the newest spec", look, limit=240)
    return told


def test_a_surge_rollout_with_a_free_gpu_loses_no_request(
    stand: Stand, cluster_lab: Lab, model: TrainedModel
) -> None:
    with units(cluster_lab, 2):
        allocatable(stand, 2)
        stand.create("steady", accelerator=GPU)
        stand.serving("steady")
        with steady_load(stand, "steady", model) as load:
            load.until_answers(20)
            stand.patch("steady", probes=CHANGED)
            assert story(stand, "steady")["strategy"] == {"Surge"}
            load.until_answers(20)
        assert load.failures == [], load.failures[:3]
        assert load.answered > 40


@provokes("ModelInvalid", "a bad new model, while the old one serves")
def test_a_bad_model_never_takes_the_old_one_down(stand: Stand, cluster_lab: Lab) -> None:
    with units(cluster_lab, 2):
        allocatable(stand, 2)
        stand.create("careful", accelerator=GPU, rollout={"onFailure": "Revert"})
        serving = stand.serving("careful")["status"]["servingRevision"]
        stand.patch("careful", model={**stand.model, "uri": stand.uri("empty.tar.gz")})
        cr = stand.failing("careful", "ModelInvalid")
        assert condition(cr, "Available")["status"] == "True"
        stand.cluster.until(
            "the revision that served",
            "Deployment",
            stand.namespace,
            "careful",
            lambda one: one["spec"]["template"]["metadata"]["labels"]["serval.dev/revision"] == serving,
        )
        stand.patch("careful", model=stand.model)
        stand.serving("careful")


def test_refusals_are_damped_and_heal_by_themselves(stand: Stand, cluster_lab: Lab) -> None:
    device = cluster_lab.device(NODE, RESOURCE)
    since = stand.cluster.version("Pod", stand.namespace)
    device.refuse(True)
    try:
        stand.create("stormy", accelerator=GPU)
        stand.failing("stormy", "DeviceAllocationFailed")
        stand.cluster.until(
            "no more pods", "Deployment", stand.namespace, "stormy", lambda one: one["spec"]["replicas"] == 0
        )
    finally:
        device.refuse(False)
    stand.serving("stormy")
    most = most_dead(stand.cluster.history("Pod", stand.namespace, since, "serval.dev/name=stormy"))
    assert 3 <= most <= 5, f"{most} dead pods at a time"
    until("the dead pods cleared away", lambda: len(stand.pods("stormy")) == 1)


class TestDevices:
    def test_a_device_that_becomes_unhealthy_and_well_again(self, stand: Stand, cluster_lab: Lab) -> None:
        device = cluster_lab.device(NODE, RESOURCE)
        device.set_unhealthy([f"unit-{number}" for number in range(device.state.units)])
        try:
            allocatable(stand, 0)
            stand.create("sick", accelerator=GPU)
            cr = stand.failing("sick", "DeviceNotReady")
            assert NODE in condition(cr, "Ready")["message"]
        finally:
            device.set_unhealthy([])
        stand.serving("sick")

    @provokes("DeviceNotReady", "the GPU node's device plugin is gone")
    def test_a_plugin_that_is_gone_and_back(self, stand: Stand, cluster_lab: Lab) -> None:
        device = cluster_lab.device(NODE, RESOURCE)
        device.stop_plugin()
        try:
            allocatable(stand, 0)
            stand.create("orphan", accelerator=GPU)
            stand.failing("orphan", "DeviceNotReady")
        finally:
            device.start_plugin()
        stand.serving("orphan")


@provokes("NoNodeOffersResource", "a device that no node has")
@provokes("SelectorMismatch", "labels that no GPU node has")
@pytest.mark.parametrize(
    ("accelerator", "selector", "reason"),
    [
        ({"resourceName": "amd.com/gpu"}, {}, "NoNodeOffersResource"),
        ({"resourceName": RESOURCE}, {"zone": "nowhere"}, "SelectorMismatch"),
        ({"resourceName": RESOURCE, "count": 64}, {}, "RequestExceedsNode"),
    ],
)
def test_what_this_cluster_cannot_give_is_said_at_once(
    stand: Stand, accelerator: dict[str, object], selector: dict[str, str], reason: str
) -> None:
    stand.create("impossible", accelerator=accelerator, scheduling={"nodeSelector": selector})
    stand.failing("impossible", reason, limit=10)
    assert not stand.pods("impossible")
