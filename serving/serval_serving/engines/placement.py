"""Where the operators of a TensorFlow model ran.

TensorFlow places an operator on a GPU that it sees if it has a kernel for it there, and else on the CPU, and
reports neither. So a GPU that it sees says nothing about a model; the model's runs do. The first run of each
signature is traced until one has used the accelerator. A graph is placed once, so later runs are not traced.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Mapping
from typing import Any

from serval_serving.engines.base import CPU

UNKNOWN = ""
"""Device of a model that was not run yet."""

_DEVICE = re.compile(r"device:(\w+:\d+)")
_OPERATOR = re.compile(r" = (\w+)\(")
_MOVING = frozenset(
    {
        *("NoOp", "Const", "Identity", "IdentityN", "Placeholder", "PlaceholderWithDefault"),
        *("VarHandleOp", "VariableV2", "ReadVariableOp"),
        *("_Arg", "_Retval", "_DeviceArg", "_DeviceRetval", "_Send", "_Recv", "_HostSend", "_HostRecv"),
        *("Enter", "Exit", "Merge", "Switch", "LoopCond", "NextIteration"),
    }
)
"""Operators that hold, pass or move tensors. A device that runs these alone computes nothing."""
_log = logging.getLogger(__name__)


def operators_by_device(step_stats: Any) -> Mapping[str, frozenset[str]]:
    """Read which operators computed on which device, such as `GPU:0`.

    Parameters
    ----------
    step_stats:
        The `StepStats` message of a traced run. TensorFlow records at most a million executed operators.
    """
    found: dict[str, set[str]] = {}
    for stats in step_stats.dev_stats:
        device = _DEVICE.search(stats.device)
        names = found.setdefault(device[1] if device else stats.device, set())
        for node in stats.node_stats:
            operator = _OPERATOR.search(node.timeline_label)
            if operator and operator[1] not in _MOVING:
                names.add(node.node_name)
    return {device: frozenset(names) for device, names in found.items()}


class DeviceWatch:
    """Says what a model runs on, from the runs that were traced. Its methods may be called from many threads.

    Parameters
    ----------
    accelerator:
        Kind of the accelerators that TensorFlow sees, such as `GPU`; empty where it sees none. Then no run is
        traced.
    """

    def __init__(self, accelerator: str) -> None:
        self._accelerator = accelerator
        self._lock = threading.Lock()
        self._traced: set[str] = set()
        self._device = UNKNOWN if accelerator else CPU

    @property
    def device(self) -> str:
        """The accelerator if a traced run computed on it, the CPU if none did, `UNKNOWN` before the first."""
        return self._device

    def wants(self, signature: str) -> bool:
        """Whether the next run of a signature must be traced."""
        return self._accelerator not in ("", self._device) and signature not in self._traced

    def note(self, signature: str, step_stats: Any) -> None:
        """Take the trace of a run that ended well."""
        found = operators_by_device(step_stats)
        total = sum(map(len, found.values()))
        used = sum(len(names) for device, names in found.items() if device.startswith(self._accelerator))
        with self._lock:
            self._traced.add(signature)
            if used or self._device == UNKNOWN:
                self._device = self._accelerator if used else CPU
        _log.info("signature=%s: %d of %d operators ran on %s", signature, used, total, self._accelerator)
        if not used:
            _log.warning("%s is there, and signature %s ran on the CPU", self._accelerator, signature)
