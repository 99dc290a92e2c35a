"""What a lab consists of: its nodes and how they are written on a command line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from serval_lab.errors import LabError

GPU_RESOURCE = "nvidia.com/gpu"
FPGA_RESOURCE = "amd.com/xilinx_u250"
EMULATED_FPGA_RESOURCE = "emulated.serval.dev/fpga"
"""Units that claim no card of any vendor: what an emulator may hold without pretending."""
MAX_NODES = 50

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_RESOURCE = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_TAINT = re.compile(r"(?P<key>[^=:]+)(=(?P<value>[^:]*))?:(?P<effect>NoSchedule|PreferNoSchedule|NoExecute)")


def check_resource(resource: str) -> None:
    """Raise `LabError` unless `resource` is a name of an extended resource, such as nvidia.com/gpu."""
    if not _RESOURCE.fullmatch(resource):
        raise LabError(f"{resource!r} is no extended resource: expected vendor.domain/name")


def parse_taint(text: str) -> dict[str, str]:
    """Return the taint ``key[=value]:Effect`` as the kubelet's configuration has it.

    Raises
    ------
    LabError
        If the text is no taint.
    """
    match = _TAINT.fullmatch(text)
    if not match:
        raise LabError(
            f"{text!r} is no taint: expected key[=value]:Effect, Effect being NoSchedule, PreferNoSchedule "
            f"or NoExecute"
        )
    return {"key": match["key"], "value": match["value"] or "", "effect": match["effect"]}


@dataclass(frozen=True)
class NodeSpec:
    """One node of the lab.

    Attributes
    ----------
    name
        Name of the Node object and host name of the node.
    labels
        Labels that the kubelet registers the node with. The API server lets a kubelet set none under
        ``kubernetes.io/`` but a few, so ``node-role.kubernetes.io/...`` and the like cannot stand here.
    taints
        Taints as kubectl writes them: ``key=value:Effect``.
    devices
        Units of each extended resource that a fake device plugin advertises.
    share
        Part of the machine that the node offers, relative to the other nodes' shares.
    cpu, memory
        What the node offers, as a Kubernetes quantity, in place of its share of the machine. Sums over
        the machine's size are overcommitment: the caller's choice.
    """

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: Sequence[str] = ()
    devices: Mapping[str, int] = field(default_factory=dict)
    share: float = 1.0
    cpu: str | None = None
    memory: str | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise LabError(f"{self.name!r} is no name for a node: small letters, digits and '-', at most 63")
        for resource, units in self.devices.items():
            check_resource(resource)
            if units < 0:
                raise LabError(f"node {self.name}: {resource} cannot have {units} units")
        for taint in self.taints:
            parse_taint(taint)
        if self.share <= 0:
            raise LabError(f"node {self.name}: its share must be above 0")

    def to_json(self) -> dict[str, Any]:
        """Return the node as JSON for the lab's state file."""
        return {
            "name": self.name,
            "labels": dict(self.labels),
            "taints": list(self.taints),
            "devices": dict(self.devices),
            "share": self.share,
            "cpu": self.cpu,
            "memory": self.memory,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> NodeSpec:
        """Read what `to_json` wrote."""
        return cls(**{**data, "taints": tuple(data["taints"])})


DEFAULT_NODES: tuple[NodeSpec, ...] = (
    NodeSpec(
        "gpu-0",
        labels={"nvidia.com/gpu.present": "true", "serval-lab/accelerator": "gpu"},
        devices={GPU_RESOURCE: 2},
        share=2.0,
    ),
    NodeSpec(
        "fpga-0",
        labels={"serval-lab/accelerator": "fpga"},
        devices={FPGA_RESOURCE: 2, EMULATED_FPGA_RESOURCE: 2},
    ),
    NodeSpec("cpu-0"),
)
"""Two GPUs, two FPGA units and two emulated ones, and one node with neither. None is tainted."""


def check_nodes(nodes: Sequence[NodeSpec]) -> None:
    """Raise `LabError` where two nodes share a name or there are too many for the address plan."""
    names = [node.name for node in nodes]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise LabError(f"two nodes are called {', '.join(twice)}")
    if len(nodes) > MAX_NODES:
        raise LabError(
            f"{len(nodes)} nodes; at most {MAX_NODES} real ones (kwok makes hundreds of fake ones)"
        )


def parse_node(text: str) -> NodeSpec:
    """Read a node from a command line.

    Parameters
    ----------
    text
        ``NAME[,key=value...][,device=RESOURCE:UNITS...][,taint=KEY=VALUE:EFFECT...][,share=N][,cpu=Q]
        [,memory=Q]``; any other key is a label.

    Raises
    ------
    LabError
        If a part cannot be read.
    """
    name, *parts = text.split(",")
    labels: dict[str, str] = {}
    taints: list[str] = []
    devices: dict[str, int] = {}
    known: dict[str, str] = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals or not key:
            raise LabError(f"--node {text}: {part!r} is not key=value")
        if key == "device":
            resource, _, units = value.rpartition(":")
            if not units.isdecimal():
                raise LabError(f"--node {text}: device={value} is not device=RESOURCE:UNITS")
            devices[resource] = int(units)
        elif key == "taint":
            taints.append(value)
        elif key in ("share", "cpu", "memory"):
            known[key] = value
        else:
            labels[key] = value
    share = known.pop("share", "1")
    if not re.fullmatch(r"\d+(\.\d+)?", share):
        raise LabError(f"--node {text}: share={share} is no number")
    return NodeSpec(name, labels, tuple(taints), devices, float(share), **known)
