"""What is up of a lab."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from serval_lab import control_plane, lifecycle, nodes
from serval_lab.context import Context
from serval_lab.kube import is_ready


@dataclass(frozen=True)
class LabStatus:
    """What is up.

    Attributes
    ----------
    phase
        ``down`` (nothing there), ``up`` (answers), or ``broken`` (remains of a lab, or one being started).
    components
        Each component of the control plane, and whether it runs.
    nodes
        Each node: ``Ready``, ``NotReady`` or ``killed``.
    index
        Index of the address plan; None for a control plane on loopback.
    """

    phase: str
    components: Mapping[str, bool] = field(default_factory=dict)
    nodes: Mapping[str, str] = field(default_factory=dict)
    index: int | None = None


def read_status(context: Context) -> LabStatus:
    """Return what is up of a lab that has left a state file."""
    components = {
        path.name: context.process(path.name) is not None
        for path in sorted(context.folder.pids.glob("*"))
        if not path.name.startswith(nodes.component(""))
    }
    if not lifecycle.answers(context):
        return LabStatus("broken", components, {}, context.state.index)
    api = control_plane.client(context)
    objects = api.nodes()
    api.close()
    found = {}
    for spec in context.state.nodes:
        runs = context.process(nodes.component(spec.name))
        ready = spec.name in objects and is_ready(objects[spec.name])
        found[spec.name] = ("Ready" if ready else "NotReady") if runs else "killed"
    return LabStatus("up", components, found, context.state.index)
