"""State of the labs of one machine: one folder per name, an index claimed by each, locks."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from serval_lab.errors import LabError
from serval_lab.locks import lock
from serval_lab.spec import NodeSpec

LOCK_LIMIT = 300.0
HPA_PERIOD = 15.0
"""Seconds; what Kubernetes itself has."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")


def boot_id() -> str:
    """Return what changes with each boot of the machine: a noted process is only ours in its boot."""
    return _BOOT_ID.read_text().strip()


@dataclass(frozen=True)
class Options:
    """How a lab was started, as far as restarts need it.

    Attributes
    ----------
    controllers
        Run kube-controller-manager.
    scheduler
        Run kube-scheduler.
    fast
        Lift the two's limits on requests to the API server, for hundreds of objects.
    kwok
        Run kwok, which plays the kubelet of fake nodes.
    node_grace
        Seconds without a sign of life after which a node is NotReady. Kubernetes' default is 40 to 50.
    registry_data
        Folder of the registry's blobs and tags.
    metrics
        Run metrics-server, which gives CPU and memory of nodes and pods.
    prometheus
        Run Prometheus, which scrapes the pods of model servers, and its adapter, which gives what it finds
        as custom metrics.
    hpa_period
        Seconds between two looks of the controller of HorizontalPodAutoscalers; its other waits keep their
        proportion to it. Kubernetes' default is 15.
    """

    controllers: bool = True
    scheduler: bool = True
    fast: bool = False
    kwok: bool = False
    node_grace: float = 16.0
    registry_data: str = ""
    metrics: bool = False
    prometheus: bool = False
    hpa_period: float = HPA_PERIOD

    def plus(self, other: Options) -> Options:
        """Return these options, and what `other` has running beside the control plane."""
        return replace(
            self,
            kwok=self.kwok or other.kwok,
            metrics=self.metrics or other.metrics,
            prometheus=self.prometheus or other.prometheus,
        )


@dataclass
class LabState:
    """What is known of a lab, kept in ``lab.json``.

    Attributes
    ----------
    index
        Claimed index of the address plan; None for a control plane on loopback.
    phase
        ``starting`` from the claim on, ``up`` once everything answered.
    ports
        Ports on loopback, by what listens.
    nodes
        Nodes in the order of their addresses.
    options
        How the lab was started.
    boot
        Boot of the machine that it belongs to.
    """

    index: int | None
    phase: str = "starting"
    ports: dict[str, int] = field(default_factory=dict)
    nodes: list[NodeSpec] = field(default_factory=list)
    options: Options = field(default_factory=Options)
    boot: str = field(default_factory=boot_id)


class StateFolder:
    """The folder of one lab.

    Parameters
    ----------
    root
        Folder of all labs.
    name
        Name of the lab: small letters, digits and '-', at most 40.
    """

    def __init__(self, root: Path, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise LabError(f"{name!r} is no name for a lab: small letters, digits and '-', at most 40")
        self.root = root
        self.path = root / name

    @property
    def logs(self) -> Path:
        """Logs of all components."""
        return self.path / "logs"

    @property
    def pids(self) -> Path:
        """Pid files."""
        return self.path / "pids"

    @property
    def pki(self) -> Path:
        """Certificates and kubeconfigs of the components."""
        return self.path / "pki"

    @property
    def kubeconfig(self) -> Path:
        """Kubeconfig of the administrator."""
        return self.path / "kubeconfig"

    def node(self, name: str) -> Path:
        """Return the folder of one node."""
        return self.path / "nodes" / name

    def make(self) -> None:
        """Make the folders; only their owner may enter, since keys are inside."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.path.chmod(0o711)  # pods' processes of other users pass through on their way to volumes
        for folder in (self.logs, self.pids):
            folder.mkdir(exist_ok=True)
        self.pki.mkdir(mode=0o700, exist_ok=True)

    def load(self) -> LabState | None:
        """Return the noted state; None if there is none that can be read."""
        try:
            data = json.loads((self.path / "lab.json").read_text())
            data["nodes"] = [NodeSpec.from_json(node) for node in data["nodes"]]
            data["options"] = Options(**data["options"])
            return LabState(**data)
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def save(self, state: LabState) -> None:
        """Note the state, whole or not at all."""
        data = {
            **vars(state),
            "nodes": [node.to_json() for node in state.nodes],
            "options": asdict(state.options),
        }
        scratch = self.path / "lab.json.new"
        scratch.write_text(json.dumps(data, indent=1) + "\n")
        scratch.replace(self.path / "lab.json")

    @contextmanager
    def locked(self, say: Callable[[str], None] | None = None) -> Iterator[None]:
        """Keep other `up` and `down` of this name out; `say` is told if one must be waited for."""
        holder = f"another up or down of lab {self.path.name}"
        with lock(self.root / f".{self.path.name}.lock", holder, LOCK_LIMIT, say):
            yield


def claimed(root: Path) -> dict[int, Path]:
    """Return the indexes that labs under `root` hold, with their folders."""
    found: dict[int, Path] = {}
    for path in sorted(root.glob("*/lab.json")):
        state = StateFolder(root, path.parent.name).load()
        if state is not None and state.index is not None:
            found[state.index] = path.parent
    return found
