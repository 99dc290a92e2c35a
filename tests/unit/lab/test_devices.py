from __future__ import annotations

from pathlib import Path

import pytest

from serval_lab import LabError, device_api, device_control
from serval_lab.device_control import DeviceState
from serval_lab.spec import check_resource


def test_changes_keep_the_rest_and_count_up(tmp_path: Path) -> None:
    device_control.write(tmp_path, DeviceState("nvidia.com/gpu", 2))
    assert device_control.change(tmp_path, "nvidia.com/gpu", unhealthy=["unit-1"]).healthy == ["unit-0"]
    state = device_control.change(tmp_path, "nvidia.com/gpu", units=3, refuse="no")
    assert state == DeviceState("nvidia.com/gpu", 3, ("unit-1",), "no", generation=3)
    assert device_control.read(device_control.control_file(tmp_path, "nvidia.com/gpu")) == state


def test_a_stopped_plugin_has_nothing_to_give_and_keeps_the_rest(tmp_path: Path) -> None:
    device_control.write(tmp_path, DeviceState("a.b/c", 2))
    stopped = device_control.change(tmp_path, "a.b/c", stopped=True)
    assert (stopped.healthy, stopped.units) == ([], 2)
    assert device_control.change(tmp_path, "a.b/c", stopped=False).healthy == ["unit-0", "unit-1"]


def test_faults_survive_the_control_file_and_other_changes(tmp_path: Path) -> None:
    device_control.change(tmp_path, "a.b/c", units=2, faults={"unit-1": "too hot"})
    state = device_control.change(tmp_path, "a.b/c", units=3)
    assert state.faults == {"unit-1": "too hot"}
    assert device_control.read(device_control.control_file(tmp_path, "a.b/c")) == state
    assert device_control.change(tmp_path, "a.b/c", faults={}).faults == {}


def test_each_unit_is_a_card_unless_they_share_some(tmp_path: Path) -> None:
    device_control.write(tmp_path, DeviceState("a.b/c", 4))
    assert DeviceState("a.b/c", 4).cards_of(["unit-3", "unit-0"]) == ["unit-3", "unit-0"]
    shared = device_control.change(tmp_path, "a.b/c", cards=2)
    assert shared.healthy == ["unit-0", "unit-1", "unit-2", "unit-3"]
    assert [shared.cards_of([unit]) for unit in shared.ids] == [
        ["unit-0"],
        ["unit-1"],
        ["unit-0"],
        ["unit-1"],
    ]
    assert shared.cards_of(["unit-2", "unit-0"]) == ["unit-0"]


def test_a_new_resource_starts_with_nothing(tmp_path: Path) -> None:
    assert device_control.change(tmp_path, "a.b/c", refuse="no") == DeviceState("a.b/c", 0, (), "no", 1)


def test_acknowledgement_repeats_the_generation(tmp_path: Path) -> None:
    state = DeviceState("a.b/c", 1, generation=7)
    assert device_control.acknowledged(tmp_path, "a.b/c") == 0
    device_control.acknowledge(tmp_path, state)
    assert device_control.acknowledged(tmp_path, "a.b/c") == 7


@pytest.mark.parametrize("resource", ["gpu", "/gpu", "nvidia.com/", "a b/c", "a/../b"])
def test_bad_resources_are_refused(resource: str) -> None:
    with pytest.raises(LabError, match="no extended resource"):
        check_resource(resource)


def test_messages_are_on_the_wire_what_the_kubelet_expects() -> None:
    types = device_api.messages()
    register = types["RegisterRequest"](version="v1beta1", endpoint="e", resource_name="r")
    assert register.SerializeToString() == b"\x0a\x07v1beta1\x12\x01e\x1a\x01r"
    device = types["Device"](ID="unit-0", health=device_api.HEALTHY)
    assert types["ListAndWatchResponse"](devices=[device]).SerializeToString() == (
        b"\x0a\x11\x0a\x06unit-0\x12\x07Healthy"
    )
    # A map entry is a message of key (1) and value (2).
    answer = types["ContainerAllocateResponse"](
        envs=[types["Entry"](key="k", value="v")],
        mounts=[types["Mount"](container_path="/c", host_path="/h")],
    )
    assert answer.SerializeToString() == b"\x0a\x06\x0a\x01k\x12\x01v\x12\x08\x0a\x02/c\x12\x02/h"
