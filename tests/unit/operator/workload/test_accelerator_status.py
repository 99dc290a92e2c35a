"""What is said of devices: the condition, and the details of who holds them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml

from serval_operator.api.conditions import Condition
from serval_operator.api.placement import Placement
from serval_operator.cluster.capacity import CapacityVerdict, Holder
from serval_operator.reasons import CAPACITY_REASONS, CAPACITY_UNKNOWN
from serval_operator.workload.accelerator_status import (
    MOST_HOLDERS,
    accelerator_condition,
    accelerator_status,
    waiting_pods,
)
from support import gen
from unit.crd.schema import CRD_FILE, walk
from unit.operator.workload.rolling import NEW, NO_DEVICE, OLD
from unit.operator.workload.seeing import seeing

pytestmark = pytest.mark.unit

GPU = Placement("nvidia.com/gpu", 2)
NONE = Placement()
FREE = CapacityVerdict("DeviceFree", "gpu-0 has 2 nvidia.com/gpu free", 2, 1)
HOLDER = Holder("ModelDeployment", "vision", "resnet", "gpu-0", 2)
BUSY = CapacityVerdict("AcceleratorBusy", "they are held", 0, 0, (HOLDER,))
WAITS = gen.unschedulable(NO_DEVICE)


def new(name: str, *options: gen.Option) -> gen.Object:
    return gen.pod(name, *options, revision=NEW)


def said(
    *pods: gen.Object, verdict: CapacityVerdict | None = None, wanted: int = 2, request: Placement = GPU
) -> Condition | None:
    return accelerator_condition(seeing(*pods), request, verdict, revision=NEW, wanted=wanted)


class TestWaiting:
    @pytest.mark.parametrize(
        ("pods", "in_place", "making_room", "names"),
        [
            ((), False, False, ""),
            ((new("a"),), False, False, ""),
            ((new("a", WAITS),), False, False, "a"),
            ((new("a", WAITS), new("b", WAITS), new("c", gen.placed())), False, False, "ab"),
            ((new("a", WAITS, gen.placed()),), False, False, ""),
            ((new("a", WAITS, gen.deleting),), False, False, ""),
            ((gen.pod("a", WAITS, revision=OLD),), False, False, ""),
            # It waits for the place of a pod that is stopped for it, or will be.
            ((new("a", WAITS),), False, True, ""),
            ((new("a", WAITS), gen.pod("b", gen.ready(), revision=OLD)), True, False, ""),
            # In place, and there is nobody whose place it could take.
            ((new("a", WAITS),), True, False, "a"),
            ((new("a", WAITS), gen.pod("b", gen.refused(), revision=OLD)), True, False, "a"),
        ],
    )
    def test_pods(self, pods: tuple[gen.Object, ...], in_place: bool, making_room: bool, names: str) -> None:
        seen = seeing(*pods, making_room=making_room)
        found = waiting_pods(seen, revision=NEW, wanted=1, in_place=in_place)
        assert "".join(pod.name for pod in found) == names


class TestCondition:
    def test_none_where_no_device_is_asked_for(self) -> None:
        assert said(new("a", WAITS), request=NONE, verdict=BUSY) is None

    def test_all_have_theirs(self) -> None:
        told = said(new("a", gen.placed()), new("b", gen.ready()), verdict=BUSY)
        assert told == Condition(
            "AcceleratorAvailable", "True", "Done", "2 of 2 pods have 2 nvidia.com/gpu each"
        )

    def test_pods_of_other_revisions_do_not_count(self) -> None:
        old = [gen.pod(name, gen.ready(), revision=OLD) for name in "ab"]
        told = said(*old, new("c", gen.ready()))
        assert told is not None
        assert (told.status, told.reason) == ("Unknown", "Progressing")
        assert told.message == "1 of 2 pods have 2 nvidia.com/gpu each"

    def test_a_refused_pod_has_none(self) -> None:
        told = said(new("a", gen.ready()), new("b", gen.refused()))
        assert told is not None
        assert told.message == "1 of 2 pods have 2 nvidia.com/gpu each"

    def test_a_device_is_free(self) -> None:
        assert said(new("a", WAITS), verdict=FREE) == Condition(
            "AcceleratorAvailable", "True", "DeviceFree", "gpu-0 has 2 nvidia.com/gpu free"
        )

    @pytest.mark.parametrize("reason", sorted(CAPACITY_REASONS - {CAPACITY_UNKNOWN}))
    def test_no_device_is_free(self, reason: str) -> None:
        told = said(new("a", gen.placed()), new("b", WAITS), verdict=CapacityVerdict(reason, "words"))
        assert told == Condition("AcceleratorAvailable", "False", reason, "1 of 2 pods: words")

    def test_nobody_knows(self) -> None:
        told = said(new("a", WAITS), verdict=CapacityVerdict(CAPACITY_UNKNOWN, "words"))
        assert told == Condition("AcceleratorAvailable", "Unknown", "CapacityUnknown", "2 of 2 pods: words")

    def test_before_any_pod_is_made(self) -> None:
        told = said(verdict=CapacityVerdict("NoNodeOffersResource", "words"))
        assert told == Condition(
            "AcceleratorAvailable", "False", "NoNodeOffersResource", "2 of 2 pods: words"
        )


class TestDetails:
    def test_none_while_nothing_waits(self) -> None:
        assert accelerator_status(GPU, None, lacking=1) is None

    def test_none_where_no_device_is_asked_for(self) -> None:
        assert accelerator_status(NONE, BUSY, lacking=1) is None

    def test_who_holds_what(self) -> None:
        assert accelerator_status(GPU, BUSY, lacking=3) == {
            "resourceName": "nvidia.com/gpu",
            "requested": 6,
            "free": 0,
            "holders": [
                {
                    "kind": "ModelDeployment",
                    "namespace": "vision",
                    "name": "resnet",
                    "node": "gpu-0",
                    "count": 2,
                }
            ],
        }

    def test_what_is_not_known_is_left_out(self) -> None:
        unknown = CapacityVerdict(CAPACITY_UNKNOWN, "words")
        assert accelerator_status(GPU, unknown, lacking=1) == {
            "resourceName": "nvidia.com/gpu",
            "requested": 2,
        }

    def test_hidden_holders_are_counted_only(self) -> None:
        verdict = CapacityVerdict("AcceleratorBusy", "", 0, 0, (Holder("", "", "", "", 7),))
        told = accelerator_status(GPU, verdict, lacking=1)
        assert told is not None
        assert told["holders"] == [{"count": 7}]

    def test_no_more_holders_than_the_crd_takes(self) -> None:
        many = tuple(replace(HOLDER, name=f"m{number}") for number in range(MOST_HOLDERS + 5))
        told = accelerator_status(GPU, CapacityVerdict("AcceleratorBusy", "", 0, 0, many), lacking=1)
        assert told is not None
        assert [one["name"] for one in told["holders"]] == [f"m{number}" for number in range(MOST_HOLDERS)]
        version = yaml.safe_load(CRD_FILE.read_text(encoding="utf-8"))["spec"]["versions"][0]
        bounds = dict(walk(version["schema"]["openAPIV3Schema"]))
        assert bounds[".status.accelerator.holders"]["maxItems"] == MOST_HOLDERS
