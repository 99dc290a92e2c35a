"""What model servers can do beyond loading a model: the capabilities that a runtime may declare.

This table is the only list of them: the configuration accepts these names, planning finds by it what a spec
asks for and what a front adds, and unit tests compare the chart's schema and README with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Protocol

from serval_contract.devices import DEVICE_ENGINE
from serval_contract.metrics import ACCELERATOR_GAUGE
from serval_contract.server_flags import (
    BATCHING_PARAMETERS_FILE,
    ENABLE_BATCHING,
    ENABLE_SCORING,
    GRPC_MAX_MESSAGE_BYTES,
    MAX_CONCURRENT_REQUESTS,
)
from serval_operator.api.blocks.endpoint import ENABLED, Endpoint
from serval_operator.api.blocks.runtime import Runtime


class Asking(Protocol):
    """The part of a spec that capabilities are asked by: blocks that all kinds that serve have."""

    @property
    def endpoint(self) -> Endpoint:
        """How the model is called."""

    @property
    def runtime(self) -> Runtime:
        """The server that is asked for, and its settings."""


def _never(_spec: Asking) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Capability:
    """One capability.

    Parameters
    ----------
    name:
        Name in `capabilities` of a runtime.
    meaning:
        What a server with it does; the sentence in the chart's README, with the server as its subject.
    field:
        The field of a spec that may ask for it; empty if none does.
    asked:
        Whether a spec asks for it. Such a spec runs only where the runtime has it or a front adds it.
    added_by_front:
        Whether Serval's front adds it to a server that lacks it.
    needed_by_front:
        Whether a front can be put only before a server that has it.
    """

    name: str
    meaning: str
    field: str = ""
    asked: Callable[[Asking], bool] = _never
    added_by_front: bool = False
    needed_by_front: bool = False


GRPC_PREDICT: Final = Capability(
    "grpc-predict", "answers TensorFlow Serving's API over gRPC; a front needs it", needed_by_front=True
)
REST_PREDICT: Final = Capability(
    "rest-predict", "answers TensorFlow Serving's API over HTTP; a front needs it", needed_by_front=True
)
RAW_SCORE: Final = Capability(
    "raw-score",
    f"scores raw bytes at `/score`, and takes `{ENABLE_SCORING(False)}`",
    field="spec.endpoint.rawBytes",
    asked=lambda spec: spec.endpoint.raw_bytes == ENABLED,
    added_by_front=True,
)
METRICS: Final = Capability("metrics", "has metrics for Prometheus")
CONCURRENCY_LIMIT: Final = Capability(
    "concurrency-limit",
    f"takes `{MAX_CONCURRENT_REQUESTS.option}` and `{GRPC_MAX_MESSAGE_BYTES.option}`",
    field="spec.endpoint.maxConcurrentRequests",
    asked=lambda spec: bool(spec.endpoint.max_concurrent_requests),
    added_by_front=True,
)
DEVICE_REPORT: Final = Capability(
    "device-report",
    f"reports by the metric `{ACCELERATOR_GAUGE}` what it runs on; the operator reads it",
)
BATCHING: Final = Capability(
    "batching",
    f"takes `{ENABLE_BATCHING(True)}` and `{BATCHING_PARAMETERS_FILE.option}`",
    field="spec.runtime.batching",
    asked=lambda spec: spec.runtime.batching is not None,
)
DEVICE_ENGINES: Final = Capability(
    "device-engines",
    f"takes `{DEVICE_ENGINE.option}`, and serves AcceleratedModels",
)
CAPABILITIES: Final[Mapping[str, Capability]] = MappingProxyType(
    {
        one.name: one
        for one in (
            GRPC_PREDICT,
            REST_PREDICT,
            RAW_SCORE,
            METRICS,
            CONCURRENCY_LIMIT,
            BATCHING,
            DEVICE_REPORT,
            DEVICE_ENGINES,
        )
    }
)
"""All capabilities by name."""
ADDED_BY_FRONT: Final = frozenset(name for name, one in CAPABILITIES.items() if one.added_by_front)
"""Names of what a front adds to a server that lacks it."""
FRONT_NEEDS: Final = frozenset(name for name, one in CAPABILITIES.items() if one.needed_by_front)
"""Names of what a server must have so that a front can be put before it."""


def asked_capabilities(spec: Asking) -> list[Capability]:
    """The capabilities that a spec asks for, in the order of the table."""
    return [one for one in CAPABILITIES.values() if one.asked(spec)]
