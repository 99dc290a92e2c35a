from __future__ import annotations

import tomllib
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from serval_lab import node_config
from serval_lab.node_config import Machine
from serval_lab.spec import NodeSpec

MACHINE = Machine(millicores=2000, memory=16 * 1024, disk=100_000)


def offered(nodes: list[NodeSpec], position: int) -> tuple[int, int, int]:
    held = node_config.reserved(MACHINE, nodes, position)
    return (
        MACHINE.millicores - int(held["cpu"].removesuffix("m")),
        MACHINE.memory - int(held["memory"].removesuffix("Mi")),
        MACHINE.disk - int(held["ephemeral-storage"].removesuffix("Mi")),
    )


@pytest.mark.parametrize("shares", [(1.0,), (1.0, 1.0, 1.0), (2.0, 1.0, 1.0), (0.3, 7.0)])
def test_all_nodes_together_offer_one_machine(shares: tuple[float, ...]) -> None:
    nodes = [NodeSpec(f"n{i}", share=share) for i, share in enumerate(shares)]
    cpu, memory, disk = (
        sum(part) for part in zip(*(offered(nodes, i) for i in range(len(nodes))), strict=True)
    )
    assert MACHINE.millicores - len(nodes) <= cpu <= MACHINE.millicores
    assert memory <= MACHINE.memory - node_config.CONTROL_PLANE_MI
    assert MACHINE.disk - len(nodes) <= disk <= MACHINE.disk


@pytest.mark.parametrize(
    ("cpu", "memory", "expected"), [("1500m", "2Gi", (1500, 2048)), ("0.5", "512Mi", (500, 512))]
)
def test_a_node_may_say_what_it_offers(cpu: str, memory: str, expected: tuple[int, int]) -> None:
    assert offered([NodeSpec("a", cpu=cpu, memory=memory), NodeSpec("b")], 0)[:2] == expected


def test_a_node_never_holds_back_less_than_nothing() -> None:
    held = node_config.reserved(MACHINE, [NodeSpec("a", cpu="64", memory="1000Gi")], 0)
    assert (held["cpu"], held["memory"]) == ("0m", "0Mi")


def test_kubelet_takes_the_machine_as_it_is() -> None:
    config = node_config.kubelet(
        address="10.89.0.11",
        pods=IPv4Network("10.88.11.0/24"),
        dns="10.89.0.1",
        pki=Path("/pki"),
        node=NodeSpec("a"),
        cgroup_root="/serval-lab/serval0/a",
        reserve={"cpu": "1000m"},
    )
    assert (config["failCgroupV1"], config["failSwapOn"], config["oomScoreAdj"]) == (False, False, 0)
    assert set(config["evictionHard"].values()) == {"0%"}
    assert config["authentication"]["anonymous"] == {"enabled": False}
    assert config["systemReserved"] == {"cpu": "1000m"}


def test_containerd_pulls_by_hosts_files_and_lowers_no_score() -> None:
    text = node_config.containerd(
        sandbox_image="10.89.0.1:5000/pause:1",
        hosts=Path("/h"),
        cni_bins=[Path("/a"), Path("/b")],
        runc=Path("/r"),
    )
    plugins = tomllib.loads(text)["plugins"]
    assert plugins["io.containerd.cri.v1.images"]["registry"]["config_path"] == "/h"
    assert plugins["io.containerd.cri.v1.runtime"]["restrict_oom_score_adj"] is True
    assert plugins["io.containerd.cri.v1.runtime"]["cni"]["bin_dirs"] == ["/a", "/b"]


def test_pods_are_not_masqueraded() -> None:
    bridge = node_config.cni(IPv4Network("10.88.11.0/24"))["plugins"][0]
    assert bridge["ipMasq"] is False
