from __future__ import annotations

import pytest

from serval_lab import LabError
from serval_lab.spec import DEFAULT_NODES, MAX_NODES, NodeSpec, check_nodes, parse_node, parse_taint


def test_a_node_from_the_command_line() -> None:
    node = parse_node(
        "gpu-1,zone=a,device=nvidia.com/gpu:4,taint=dedicated=gpu:NoSchedule,cpu=2,memory=4Gi,share=2"
    )
    assert node == NodeSpec(
        "gpu-1",
        labels={"zone": "a"},
        taints=("dedicated=gpu:NoSchedule",),
        devices={"nvidia.com/gpu": 4},
        share=2.0,
        cpu="2",
        memory="4Gi",
    )


def test_a_bare_name_is_a_node() -> None:
    assert parse_node("edge") == NodeSpec("edge")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no name for a node"),
        ("Edge", "no name for a node"),
        ("-a", "no name for a node"),
        ("a" * 64, "no name for a node"),
        ("a,b", "is not key=value"),
        ("a,=b", "is not key=value"),
        ("a,device=nvidia.com/gpu", "is not device=RESOURCE:UNITS"),
        ("a,device=nvidia.com/gpu:x", "is not device=RESOURCE:UNITS"),
        ("a,device=gpu:1", "no extended resource"),
        ("a,taint=x", "is no taint"),
        ("a,taint=x=y:Never", "is no taint"),
        ("a,share=much", "is no number"),
        ("a,share=0", "must be above 0"),
    ],
)
def test_bad_nodes_are_named(text: str, message: str) -> None:
    with pytest.raises(LabError, match=message):
        parse_node(text)


@pytest.mark.parametrize(
    ("text", "taint"),
    [
        ("a=b:NoSchedule", {"key": "a", "value": "b", "effect": "NoSchedule"}),
        ("sku:NoExecute", {"key": "sku", "value": "", "effect": "NoExecute"}),
    ],
)
def test_taints(text: str, taint: dict[str, str]) -> None:
    assert parse_taint(text) == taint


def test_nodes_survive_the_state_file() -> None:
    for node in (*DEFAULT_NODES, parse_node("a,taint=x:NoExecute,cpu=1")):
        assert NodeSpec.from_json(node.to_json()) == node


def test_default_nodes_are_two_gpus_two_fpgas_of_each_kind_and_neither() -> None:
    assert [(node.name, dict(node.devices)) for node in DEFAULT_NODES] == [
        ("gpu-0", {"nvidia.com/gpu": 2}),
        ("fpga-0", {"amd.com/xilinx_u250": 2, "emulated.serval.dev/fpga": 2}),
        ("cpu-0", {}),
    ]
    assert not any(node.taints for node in DEFAULT_NODES)


def test_names_are_unique_and_nodes_are_few() -> None:
    with pytest.raises(LabError, match="two nodes are called a"):
        check_nodes([NodeSpec("a"), NodeSpec("b"), NodeSpec("a")])
    with pytest.raises(LabError, match="at most"):
        check_nodes([NodeSpec(f"n{i}") for i in range(MAX_NODES + 1)])
