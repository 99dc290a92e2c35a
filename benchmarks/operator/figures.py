"""The figures of one run, as they are kept in a file and shown in the table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.operator.observer import Times, percentile, spans


@dataclass(frozen=True)
class Latency:
    """Seconds of a half and of all but a hundredth of the cases, and how many cases there were."""

    p50: float
    p99: float
    cases: int

    @classmethod
    def of(cls, times: Mapping[str, Times], start: str, end: str) -> Latency:
        """Latency between two sights of all ModelDeployments."""
        found = spans(times, start, end)
        return cls(percentile(found, 0.5), percentile(found, 0.99), len(found))


@dataclass(frozen=True)
class Calm:
    """Created one after another, with time between: what an operator does that has nothing else to do."""

    deployment: Latency
    ready: Latency
    whole: Latency


@dataclass(frozen=True)
class Restart:
    """A new operator finds so many ModelDeployments that need nothing.

    Attributes
    ----------
    cpu_seconds:
        CPU of the operator until it was quiet.
    quiet_seconds:
        From the start of its process to its last busy moment or request.
    requests:
        What it asked, by verb and resource.
    writes:
        Of these, those that write.
    kept:
        Objects of its kinds that were written, by whomever.
    pods_replaced:
        Pods that are new.
    memory_mb:
        Resident memory, now and at most, in MB.
    """

    cpu_seconds: float
    quiet_seconds: float
    requests: Mapping[str, int]
    writes: int
    kept: int
    pods_replaced: int
    memory_mb: tuple[float, float]


@dataclass(frozen=True)
class Burst:
    """Many created at full speed.

    Attributes
    ----------
    count:
        How many.
    created_seconds, ready_seconds:
        Until all were created, and until all were Ready, from the first on.
    cpu_ms:
        CPU of each process for one ModelDeployment, in milliseconds.
    requests:
        What the operator asked for one ModelDeployment, by verb and resource.
    kept:
        Of these, writes that etcd kept.
    deployment, available_ready, pod_ready:
        From created to its Deployment; from the Deployment Available, and from the pod Ready, to Ready.
    memory_mb:
        Resident memory of the operator before, afterwards and at most, in MB.
    idle_requests:
        What the operator asked in a minute without any change.
    restart:
        What came of starting it anew.
    others_cores:
        Cores that processes took which have nothing to do with it, from the first creation until all was
        quiet; None where that was not looked at.
    """

    count: int
    created_seconds: float
    ready_seconds: float
    cpu_ms: Mapping[str, float]
    requests: Mapping[str, float]
    kept: float
    deployment: Latency
    available_ready: Latency
    pod_ready: Latency
    memory_mb: tuple[float, float, float]
    idle_requests: Mapping[str, int]
    restart: Restart
    others_cores: float | None = None


@dataclass(frozen=True)
class Results:
    """All that was measured last."""

    calm: Calm | None = None
    bursts: Mapping[str, Burst] = field(default_factory=dict)
    crowds: Mapping[str, Restart] = field(default_factory=dict)
