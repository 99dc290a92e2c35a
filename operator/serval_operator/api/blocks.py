"""Blocks of a ModelDeployment's spec that decide how it is fetched, rolled out, scaled and scheduled, typed.

Only what the operator relies on is checked here. An unknown word is reported as unsupported and not as
invalid: the CRD may be newer than the operator, for example after a downgrade.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeVar, get_args

from serval_operator.constants import SYSTEM_PRIORITY
from serval_operator.errors import InvalidSpec
from serval_operator.reasons import INVALID_SPEC, UNSUPPORTED_SPEC

AUTO: Final = "Auto"
HOLD: Final = "Hold"
REVERT: Final = "Revert"
REFUSE: Final = "Refuse"
WAIT: Final = "Wait"
CPU: Final = "CPU"
REQUESTS_IN_FLIGHT: Final = "RequestsInFlight"
PREFERRED: Final = "Preferred"
REQUIRED: Final = "Required"
ENABLED: Final = "Enabled"
DISABLED: Final = "Disabled"

AskedStrategy = Literal["Auto", "Surge", "InPlace"]
OnFailure = Literal["Hold", "Revert"]
WhenUnavailable = Literal["Auto", "Wait", "Refuse"]
MetricType = Literal["CPU", "RequestsInFlight"]
TopologySpread = Literal["Preferred", "Required", "Disabled"]
RawBytes = Literal["Enabled", "Disabled"]

Strategy = Literal["Surge", "InPlace"]
"""How a change goes out: a new pod beside the old ones first, or in the place of an old one."""
SURGE: Final = "Surge"
IN_PLACE: Final = "InPlace"

MAX_REPLICAS = 1000
_PERCENT = re.compile(r"([1-9]\d?|100)%", re.ASCII)
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_Block = Mapping[str, Any]
_Word = TypeVar("_Word")


@dataclass(frozen=True, slots=True)
class Credentials:
    """Identity of the fetch container at the model's store: `spec.model.credentials`. One of both is set.

    Parameters
    ----------
    secret_name:
        Secret whose keys the fetch container reads as files.
    service_account_name:
        ServiceAccount that the pods run as. It must allow that, see `LABEL_ALLOWED`.
    """

    secret_name: str = ""
    service_account_name: str = ""


@dataclass(frozen=True, slots=True)
class Batching:
    """How the model server batches requests: `spec.runtime.batching`. None leaves the runtime's default.

    Parameters
    ----------
    max_batch_size:
        Rows of the largest batch.
    timeout_micros:
        How long an incomplete batch waits for more requests, in microseconds.
    max_enqueued:
        Batches that may wait for a free thread.
    """

    max_batch_size: int
    timeout_micros: int | None = None
    max_enqueued: int | None = None


@dataclass(frozen=True, slots=True)
class Scheduling:
    """Which nodes may take the pods, and how they are scheduled: `spec.scheduling`.

    Names are empty where the spec has none.

    Parameters
    ----------
    node_selector, tolerations:
        In addition to those of the accelerator profile.
    topology_spread:
        How strictly replicas are spread over nodes.
    """

    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: Sequence[Mapping[str, Any]] = ()
    topology_spread: TopologySpread = PREFERRED
    priority_class: str = ""
    runtime_class: str = ""
    scheduler: str = ""


@dataclass(frozen=True, slots=True)
class Rollout:
    """How a change goes out: `spec.rollout`.

    Parameters
    ----------
    start_deadline_seconds:
        Longest time from a new pod's scheduling to the model's first answer.
    min_ready_seconds:
        How long a new pod must answer before it counts.
    on_failure:
        Whether a rollout that failed stays where it is, or goes back to the last revision that served.
    trigger:
        Text without a meaning: another value is another revision.
    """

    strategy: AskedStrategy = "Auto"
    start_deadline_seconds: int = 1800
    min_ready_seconds: int = 0
    on_failure: OnFailure = "Hold"
    trigger: str = ""


@dataclass(frozen=True, slots=True)
class Metric:
    """What an autoscaler follows: an item of `spec.autoscaling.metrics`.

    Parameters
    ----------
    target_utilization:
        Percent of the requested CPU, or of the requests that a replica works on at once.
    """

    type: MetricType = "CPU"
    target_utilization: int = 70


@dataclass(frozen=True, slots=True)
class Autoscaling:
    """How many replicas an autoscaler may choose, and by what: `spec.autoscaling`."""

    min_replicas: int
    max_replicas: int
    metrics: tuple[Metric, ...] = (Metric(),)


@dataclass(frozen=True, slots=True)
class Disruption:
    """How many replicas may be evicted at the same time: `spec.disruption`.

    Parameters
    ----------
    max_unavailable:
        Pods, or a percentage of them such as ``25%``; never none at all.
    """

    max_unavailable: int | str = 1


@dataclass(frozen=True, slots=True)
class Probe:
    """Numbers of one probe; None leaves the operator's choice. Seconds."""

    period_seconds: int | None = None
    timeout_seconds: int | None = None
    failure_threshold: int | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """How the model is called: `spec.endpoint`.

    Parameters
    ----------
    raw_bytes:
        Whether ``/score`` takes raw bytes; None for "if the runtime supports it".
    timeout_seconds:
        Longest time that one request may take, or None for the runtime's own.
    max_concurrent_requests:
        Requests in work at once in one replica, or None for no limit.
    """

    raw_bytes: RawBytes | None = None
    timeout_seconds: int | None = None
    max_concurrent_requests: int | None = None


def invalid(message: str, reason: str = INVALID_SPEC) -> InvalidSpec:
    """Error for a spec that says something impossible."""
    return InvalidSpec(reason, message)


def whole_number(path: str, value: object, least: int, most: int | None = None) -> int:
    """A number of the spec, checked.

    Raises
    ------
    InvalidSpec
        It is no whole number, or outside its bounds.
    """
    sound = isinstance(value, int) and not isinstance(value, bool)
    if not isinstance(value, int) or not sound or value < least or (most is not None and value > most):
        bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise invalid(f"`{path}` must be a whole number {bounds}")
    return value


def parse_credentials(spec: _Block | None) -> Credentials | None:
    """Read `spec.model.credentials`.

    Raises
    ------
    InvalidSpec
        Both are set, or neither, or one is no name.
    """
    if not spec:
        return None
    reference = spec.get("secretRef")
    secret, account = str((reference or {}).get("name") or ""), str(spec.get("serviceAccountName") or "")
    if bool(reference) == bool(account):
        raise invalid("`spec.model.credentials` must have either `secretRef` or `serviceAccountName`")
    if not _NAME.fullmatch(secret or account):
        path = "secretRef.name" if reference else "serviceAccountName"
        raise invalid(f"`spec.model.credentials.{path}` must be the name of an object of this namespace")
    return Credentials(secret, account)


def parse_batching(spec: _Block | None) -> Batching | None:
    """Read `spec.runtime.batching`.

    Raises
    ------
    InvalidSpec
        A number is missing or out of bounds.
    """
    if spec is None:
        return None
    path = "spec.runtime.batching"
    timeout, enqueued = spec.get("timeoutMicros"), spec.get("maxEnqueued")
    return Batching(
        whole_number(f"{path}.maxBatchSize", spec.get("maxBatchSize"), 1),
        None if timeout is None else whole_number(f"{path}.timeoutMicros", timeout, 0),
        None if enqueued is None else whole_number(f"{path}.maxEnqueued", enqueued, 1),
    )


def parse_scheduling(spec: _Block | None) -> Scheduling:
    """Read `spec.scheduling`.

    Raises
    ------
    InvalidSpec
        The PriorityClass is one of Kubernetes' own, or this operator does not know a word.
    """
    given, spread = spec or {}, "spec.scheduling.topologySpread"
    priority = str(given.get("priorityClassName") or "")
    if priority.startswith(SYSTEM_PRIORITY):
        raise invalid(f"`spec.scheduling.priorityClassName` must not start with {SYSTEM_PRIORITY}")
    return Scheduling(
        node_selector=given.get("nodeSelector") or {},
        tolerations=tuple(given.get("tolerations") or ()),
        topology_spread=known_word(spread, given.get("topologySpread"), get_args(TopologySpread), PREFERRED),
        priority_class=priority,
        runtime_class=str(given.get("runtimeClassName") or ""),
        scheduler=str(given.get("schedulerName") or ""),
    )


def parse_when_unavailable(accelerator: _Block) -> WhenUnavailable:
    """Read `spec.accelerator.whenUnavailable`.

    Raises
    ------
    InvalidSpec
        This operator does not know the word.
    """
    path = "spec.accelerator.whenUnavailable"
    return known_word(path, accelerator.get("whenUnavailable"), get_args(WhenUnavailable), AUTO)


def parse_rollout(spec: _Block | None) -> Rollout:
    """Read `spec.rollout`.

    Raises
    ------
    InvalidSpec
        A number is out of bounds, or this operator does not know a word.
    """
    given, default = spec or {}, Rollout()
    deadline = given.get("startDeadlineSeconds", default.start_deadline_seconds)
    ready = given.get("minReadySeconds", default.min_ready_seconds)
    return Rollout(
        strategy=known_word("spec.rollout.strategy", given.get("strategy"), get_args(AskedStrategy), AUTO),
        start_deadline_seconds=whole_number("spec.rollout.startDeadlineSeconds", deadline, 1),
        min_ready_seconds=whole_number("spec.rollout.minReadySeconds", ready, 0),
        on_failure=known_word("spec.rollout.onFailure", given.get("onFailure"), get_args(OnFailure), HOLD),
        trigger=str(given.get("trigger") or ""),
    )


def parse_autoscaling(spec: _Block) -> Autoscaling | None:
    """Read `spec.autoscaling`, and check that the rest of the spec has what it needs.

    Parameters
    ----------
    spec:
        The whole spec.

    Raises
    ------
    InvalidSpec
        The bounds contradict each other, the value that a metric is a share of is missing, or this operator
        does not know a metric.
    """
    given = spec.get("autoscaling")
    if not given:
        return None
    least = whole_number("spec.autoscaling.minReplicas", given.get("minReplicas", 1), 1, MAX_REPLICAS)
    most = whole_number("spec.autoscaling.maxReplicas", given.get("maxReplicas"), 1, MAX_REPLICAS)
    if most < least:
        raise invalid("`spec.autoscaling.maxReplicas` must be at least `spec.autoscaling.minReplicas`")
    metrics = tuple(_metric(one) for one in given.get("metrics") or ()) or (Metric(),)
    types = {one.type for one in metrics}
    if CPU in types and not _asks_for_cpu(spec.get("resources") or {}):
        raise invalid("`spec.resources.requests.cpu` must be set, since `spec.autoscaling` scales on CPU")
    if REQUESTS_IN_FLIGHT in types and not (spec.get("endpoint") or {}).get("maxConcurrentRequests"):
        raise invalid(
            "`spec.endpoint.maxConcurrentRequests` must be set, since `spec.autoscaling` scales on "
            "requests in flight"
        )
    return Autoscaling(least, most, metrics)


def _metric(spec: _Block) -> Metric:
    path, default = "spec.autoscaling.metrics[]", Metric()
    target = spec.get("targetUtilization", default.target_utilization)
    return Metric(
        known_word(f"{path}.type", spec.get("type"), get_args(MetricType), default.type),
        whole_number(f"{path}.targetUtilization", target, 1, 100),
    )


def parse_disruption(spec: _Block | None) -> Disruption | None:
    """Read `spec.disruption`.

    Raises
    ------
    InvalidSpec
        The budget is neither a number nor a percentage, or none at all, which would block every drain.
    """
    if not spec:
        return None
    value = spec.get("maxUnavailable", 1)
    percent = isinstance(value, str) and _PERCENT.fullmatch(value)
    number = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if not percent and not number:
        raise invalid(
            "`spec.disruption.maxUnavailable` must be a number of at least 1 or a percentage above 0, such "
            "as 1 or 25%"
        )
    return Disruption(value)


def known_word(path: str, value: object, known: tuple[_Word, ...], default: _Word) -> _Word:
    """One of the words that a field of the spec may have; the default where the field is absent.

    Raises
    ------
    InvalidSpec
        This operator does not know the word: `UnsupportedSpec`.
    """
    if value is None:
        return default
    for word in known:
        if word == value:
            return word
    listed = ", ".join(str(word) for word in known)
    raise invalid(f"`{path}` must be one of {listed}; this operator knows no other", UNSUPPORTED_SPEC)


def _asks_for_cpu(resources: _Block) -> bool:
    return any("cpu" in (resources.get(side) or {}) for side in ("requests", "limits"))
