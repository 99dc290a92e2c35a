"""The lab: a real Kubernetes on one bare machine, for tests and demos. See docs/lab.md."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serval_lab.errors import LabError as LabError
    from serval_lab.lab import ControlPlane as ControlPlane
    from serval_lab.lab import Lab as Lab
    from serval_lab.settings import Settings as Settings
    from serval_lab.spec import DEFAULT_NODES as DEFAULT_NODES
    from serval_lab.spec import NodeSpec as NodeSpec

_WHERE = {
    "ControlPlane": "lab",
    "DEFAULT_NODES": "spec",
    "Lab": "lab",
    "LabError": "errors",
    "NodeSpec": "spec",
    "Settings": "settings",
}


def __getattr__(name: str) -> Any:
    """Load what is asked for: the programs inside nodes start without cryptography and HTTP clients."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
