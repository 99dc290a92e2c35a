"""How the model of a pod is called and probed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Final, Literal, get_args

from serval_operator.api.schema import Block, Nested, Whole, Words

ENABLED: Final = "Enabled"

RawBytes = Literal["Enabled", "Disabled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint(Block):
    """How the model is called: `spec.endpoint`. None leaves a field to the runtime."""

    raw_bytes: Annotated[
        RawBytes | None,
        Words(
            "Whether /score takes raw bytes by POST and answers with the model's output. When absent, "
            "it does if the runtime supports it. Enabled needs a runtime or a front that supports it.",
            get_args(RawBytes),
            # Enabled is what the runtime does anyway, or the reason for a front, which counts by itself.
            no_trace=(ENABLED,),
        ),
    ] = None
    timeout_seconds: Annotated[
        int | None,
        Whole(
            "Longest time that one HTTP request may take, in seconds. When absent, the runtime's own "
            "(30). gRPC clients set their own deadline.",
            1,
            3600,
        ),
    ] = None
    max_concurrent_requests: Annotated[
        int | None,
        Whole(
            "How many requests one replica works on at the same time. When absent, there is no limit "
            "but the runtime's own. Needs a runtime that can.",
            1,
            10_000,
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe(Block):
    """Numbers of one probe; None leaves the operator's choice."""

    period_seconds: Annotated[int | None, Whole("Time between two probes, in seconds.", 1, 300)] = None
    timeout_seconds: Annotated[
        int | None, Whole("Longest time that one probe may take, in seconds.", 1, 300)
    ] = None
    failure_threshold: Annotated[int | None, Whole("How many probes in a row must fail.", 1, 3600)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes(Block):
    """Numbers of the model server's probes: `spec.probes`."""

    startup: Annotated[
        Probe,
        Nested(
            "Until the model has answered for the first time. periodSeconds times failureThreshold is "
            "the longest time that loading may take.",
            Probe,
        ),
    ] = field(default_factory=Probe)
    readiness: Annotated[Probe, Nested("Whether a replica gets requests.", Probe)] = field(
        default_factory=Probe
    )
    liveness: Annotated[Probe, Nested("Whether a replica's server must be restarted.", Probe)] = field(
        default_factory=Probe
    )
