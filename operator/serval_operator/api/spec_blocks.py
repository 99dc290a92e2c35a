"""Blocks of a ModelDeployment's spec that decide how it is fetched, rolled out, scaled and spread, typed.

As in `serval_operator.api.model`, what is checked here is what the operator relies on. A word that a field
does not know is not called wrong: the CRD may be newer than the operator, after a downgrade.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar, get_args

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
DISABLED: Final = "Disabled"

AskedStrategy = Literal["Auto", "Surge", "InPlace"]
OnFailure = Literal["Hold", "Revert"]
WhenUnavailable = Literal["Auto", "Wait", "Refuse"]
Metric = Literal["CPU", "RequestsInFlight"]
TopologySpread = Literal["Preferred", "Required", "Disabled"]

MAX_REPLICAS = 1000
_PERCENT = re.compile(r"([1-9]\d?|100)%", re.ASCII)
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_Block = Mapping[str, Any]
_Word = TypeVar("_Word")


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who the fetch container is towards the model's store: `spec.model.credentials`. One of both is set.

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
class Rollout:
    """How a change goes out: `spec.rollout`.

    Parameters
    ----------
    progress_deadline_seconds:
        Longest time from a new pod's scheduling to the model's first answer.
    min_ready_seconds:
        How long a new pod must answer before it counts.
    on_failure:
        Whether a rollout that failed stays where it is, or goes back to the last revision that served.
    """

    strategy: AskedStrategy = "Auto"
    progress_deadline_seconds: int = 1800
    min_ready_seconds: int = 0
    on_failure: OnFailure = "Hold"


@dataclass(frozen=True, slots=True)
class Autoscaling:
    """How many replicas an autoscaler may choose, and by what: `spec.autoscaling`.

    Parameters
    ----------
    target_utilization:
        Percent of the requested CPU, or of the requests that a replica works on at once.
    """

    min_replicas: int
    max_replicas: int
    target_utilization: int = 70
    metric: Metric = "CPU"


@dataclass(frozen=True, slots=True)
class Disruption:
    """How many replicas may be evicted at the same time: `spec.disruption`.

    Parameters
    ----------
    max_unavailable:
        Pods, or a percentage of them such as ``25%``; never none at all.
    """

    max_unavailable: int | str = 1


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
    secret, account = str(spec.get("secretName") or ""), str(spec.get("serviceAccountName") or "")
    if bool(secret) == bool(account):
        raise invalid("`spec.model.credentials` must have either `secretName` or `serviceAccountName`")
    if not _NAME.fullmatch(secret or account):
        field = "secretName" if secret else "serviceAccountName"
        raise invalid(f"`spec.model.credentials.{field}` must be the name of an object of this namespace")
    return Credentials(secret, account)


def parse_when_unavailable(accelerator: _Block) -> WhenUnavailable:
    """Read `spec.accelerator.whenUnavailable`.

    Raises
    ------
    InvalidSpec
        This operator does not know the word.
    """
    path = "spec.accelerator.whenUnavailable"
    return _word(path, accelerator.get("whenUnavailable"), get_args(WhenUnavailable), AUTO)


def parse_rollout(spec: _Block | None) -> Rollout:
    """Read `spec.rollout`.

    Raises
    ------
    InvalidSpec
        A number is out of bounds, or this operator does not know a word.
    """
    given, default = spec or {}, Rollout()
    deadline = given.get("progressDeadlineSeconds", default.progress_deadline_seconds)
    ready = given.get("minReadySeconds", default.min_ready_seconds)
    return Rollout(
        strategy=_word("spec.rollout.strategy", given.get("strategy"), get_args(AskedStrategy), AUTO),
        progress_deadline_seconds=whole_number("spec.rollout.progressDeadlineSeconds", deadline, 1),
        min_ready_seconds=whole_number("spec.rollout.minReadySeconds", ready, 0),
        on_failure=_word("spec.rollout.onFailure", given.get("onFailure"), get_args(OnFailure), HOLD),
    )


def parse_autoscaling(spec: _Block) -> Autoscaling | None:
    """Read `spec.autoscaling`, and whether the rest of the spec has what it needs.

    Parameters
    ----------
    spec:
        The whole spec.

    Raises
    ------
    InvalidSpec
        The bounds contradict each other, or what the metric is a share of is missing.
    """
    given = spec.get("autoscaling")
    if not given:
        return None
    least = whole_number("spec.autoscaling.minReplicas", given.get("minReplicas", 1), 1, MAX_REPLICAS)
    most = whole_number("spec.autoscaling.maxReplicas", given.get("maxReplicas"), 1, MAX_REPLICAS)
    if most < least:
        raise invalid("`spec.autoscaling.maxReplicas` must be at least `spec.autoscaling.minReplicas`")
    target = whole_number("spec.autoscaling.targetUtilization", given.get("targetUtilization", 70), 1, 100)
    metric: Metric = _word("spec.autoscaling.metric", given.get("metric"), get_args(Metric), CPU)
    if metric == CPU and not _asks_for_cpu(spec.get("resources") or {}):
        raise invalid("`spec.resources.requests.cpu` must be set, since `spec.autoscaling` scales on CPU")
    if metric == REQUESTS_IN_FLIGHT and not (spec.get("endpoint") or {}).get("maxConcurrentRequests"):
        raise invalid(
            "`spec.endpoint.maxConcurrentRequests` must be set, since `spec.autoscaling` scales on "
            "requests in flight"
        )
    return Autoscaling(least, most, target, metric)


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


def parse_topology_spread(spec: _Block) -> TopologySpread:
    """Read `spec.topologySpread`.

    Raises
    ------
    InvalidSpec
        This operator does not know the word.
    """
    return _word("spec.topologySpread", spec.get("topologySpread"), get_args(TopologySpread), PREFERRED)


def _word(path: str, value: object, known: tuple[_Word, ...], default: _Word) -> _Word:
    """One of the words that a field knows; its default where there is none."""
    if value is None:
        return default
    for word in known:
        if word == value:
            return word
    listed = ", ".join(str(word) for word in known)
    raise invalid(f"`{path}` must be one of {listed}; this operator knows no other", UNSUPPORTED_SPEC)


def _asks_for_cpu(resources: _Block) -> bool:
    return any("cpu" in (resources.get(side) or {}) for side in ("requests", "limits"))
