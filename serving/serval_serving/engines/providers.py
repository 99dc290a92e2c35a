"""What runs the operators of ONNX models: execution providers of ONNX Runtime, as users name them."""

from __future__ import annotations

import contextlib
import io
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from serval_serving.engines import base

_log = logging.getLogger(__name__)
_SUFFIX = "ExecutionProvider"
_OPENVINO = "OpenVINO"
CUDA: Final = "CUDA"
_ON_CPU = frozenset({base.CPU, "ACL", "ArmNN", "Dnnl", "Xnnpack"})
"""Providers that know no other hardware."""


@dataclass(frozen=True, slots=True)
class Provider:
    """An execution provider.

    Attributes
    ----------
    name:
        Its name without the words that all of them share: `CUDA`.
    hardware:
        What OpenVINO computes on: `CPU`, `GPU`, `NPU`. Empty for the others: their names say it.
    """

    name: str
    hardware: str = ""

    def __str__(self) -> str:
        """Give the name as users write it: `CUDA`, `OpenVINO`, `OpenVINO:GPU`."""
        return self.name if self.hardware in ("", base.CPU) else f"{self.name}:{self.hardware}"

    @property
    def full(self) -> str:
        """The name as ONNX Runtime spells it."""
        return self.name + _SUFFIX

    @property
    def device(self) -> str:
        """What a model runs on that this provider runs: `CPU`, whosever library computes there."""
        return base.CPU if self.name in _ON_CPU or self.hardware == base.CPU else str(self)

    def options(self, threads: int) -> dict[str, str]:
        """Its options.

        Parameters
        ----------
        threads:
            Threads within a model; 0 for as many as it likes.
        """
        if self.name != _OPENVINO:
            return {}
        # It has threads of its own, for all runs together, and knows nothing of ONNX Runtime's setting.
        limit = {"num_of_threads": str(threads)} if threads and self.hardware == base.CPU else {}
        return {"device_type": self.hardware, **limit}


CPU: Final = Provider(base.CPU)
BY_ITSELF: Final = (Provider(CUDA), CPU)
"""What is taken where nobody says what to take, as far as this build has it; the preferred one first. Not
OpenVINO: it reshapes three numbers to rows of two without an error, and gives none."""
RECORD: Final = ("session.record_ep_graph_assignment_info", "1")
"""Setting of a session that keeps who runs which operator."""


def parse(text: str, known: Iterable[str]) -> Provider | None:
    """Read a provider as users write it, in any case, with or without the common ending.

    Parameters
    ----------
    known:
        Names of providers as ONNX Runtime spells them.

    Returns
    -------
    Provider
        None where nobody knows it.
    """
    name, _, hardware = text.partition(":")
    found = _by_lower(known).get(name.removesuffix(_SUFFIX).lower())
    if found is None:
        return None
    if found == _OPENVINO:
        return Provider(found, hardware.upper() or base.CPU)
    return None if hardware else Provider(found)


def unknown(text: str, known: Iterable[str]) -> str:
    """Say that nobody knows a provider, and which ones there are."""
    return f"ONNX Runtime knows no provider {text}; it knows {', '.join(sorted(_by_lower(known)))}"


def load_cuda(runtime: Any) -> None:
    """Load CUDA's libraries from their Python packages, where the provider for CUDA does not look by itself.

    Without this the provider for CUDA cannot be loaded in an image that has CUDA from no other place, and the
    CPU runs everything. What does not load is logged.

    Parameters
    ----------
    runtime:
        The module of ONNX Runtime, in a build for CUDA.
    """
    said = io.StringIO()
    # It prints what is wrong.
    with contextlib.redirect_stdout(said):
        runtime.preload_dlls()
    for line in said.getvalue().splitlines():
        _log.warning("%s", line)


def shares(session: Any) -> Counter[str]:
    """Count the operators of a model by the provider that runs them, spelled as ONNX Runtime does.

    A session lists the providers that it has, be it that they take no operator: what another cannot run, the
    CPU gets without a word.

    Parameters
    ----------
    session:
        One that keeps `RECORD`.
    """
    taken: Counter[str] = Counter()
    for part in session.get_provider_graph_assignment_info():
        taken[part.ep_name] += len(part.get_nodes())
    return taken


def first_with_work(wanted: Sequence[Provider], taken: Counter[str]) -> Provider:
    """Find the preferred one of the providers that run any operator; without one it is the CPU."""
    return next((one for one in wanted if taken[one.full]), CPU)


def _by_lower(known: Iterable[str]) -> dict[str, str]:
    """Names without the common ending, by the same in small letters."""
    return {short.lower(): short for short in (one.removesuffix(_SUFFIX) for one in known)}
