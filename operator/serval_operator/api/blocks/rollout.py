"""How pods are replaced, scaled and evicted."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Literal, get_args

from serval_operator.api.blocks.names import AUTO
from serval_operator.api.parse import invalid
from serval_operator.api.schema import Block, Items, Nested, Rule, Text, Whole, WholeOrText, Words

HOLD: Final = "Hold"
REVERT: Final = "Revert"
CPU: Final = "CPU"
REQUESTS_IN_FLIGHT: Final = "RequestsInFlight"

AskedStrategy = Literal["Auto", "Surge", "InPlace"]
OnFailure = Literal["Hold", "Revert"]
MetricType = Literal["CPU", "RequestsInFlight"]

MAX_REPLICAS = 1000
_PERCENT = re.compile(r"([1-9]\d?|100)%", re.ASCII)

Strategy = Literal["Surge", "InPlace"]
"""How a change goes out: a new pod beside the old ones first, or in the place of an old one."""
SURGE: Final = "Surge"
IN_PLACE: Final = "InPlace"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout(Block):
    """How a change goes out: `spec.rollout`."""

    strategy: Annotated[
        AskedStrategy,
        Words(
            "Surge starts a new pod beside the old ones first, InPlace stops an old one first. Auto, "
            "as when absent, surges while there is room for it, else goes in place. "
            "status.effective.strategy shows which.",
            get_args(AskedStrategy),
            shapes_pods=False,
        ),
    ] = AUTO
    start_deadline_seconds: Annotated[
        int,
        Whole(
            "Longest time from the scheduling of a new pod to the first answer of its model, in "
            "seconds; beyond it the rollout has failed. When absent, 1800. Waiting for a node or a "
            "device does not count.",
            10,
            86_400,
            shapes_pods=False,
        ),
    ] = 1800
    min_ready_seconds: Annotated[
        int,
        Whole(
            "How long a new pod must answer before the next one is replaced, in seconds. When absent, 0.",
            0,
            3600,
            shapes_pods=False,
        ),
    ] = 0
    on_failure: Annotated[
        OnFailure,
        Words(
            "What becomes of a rollout that failed. Hold, as when absent, leaves it where it is, so "
            "that its pods can be looked at; Revert goes back to the last revision that served.",
            get_args(OnFailure),
            shapes_pods=False,
        ),
    ] = HOLD
    trigger: Annotated[
        str,
        Text(
            "Any text. A new value starts a rollout of the same spec, which renders the pods as the "
            "operator does today and looks for the model's highest version again.",
            max_length=253,
        ),
    ] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric(Block):
    """What an autoscaler follows: an item of `spec.autoscaling.metrics`."""

    type: Annotated[
        MetricType,
        Words(
            "CPU is the share of the CPU that the server requests; it needs `resources` with cpu, and "
            "metrics-server in the cluster. RequestsInFlight is the share of "
            "`endpoint.maxConcurrentRequests`; it needs an adapter that serves the pods' metric "
            "serval_requests_in_flight.",
            get_args(MetricType),
        ),
    ]
    target_utilization: Annotated[
        int, Whole("Average utilization of the replicas to aim for, in percent. When absent, 70.", 1, 100)
    ] = 70


@dataclass(frozen=True, slots=True, kw_only=True)
class Autoscaling(Block):
    """How many replicas an autoscaler may choose, and by what: `spec.autoscaling`."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.minReplicas) || self.minReplicas <= self.maxReplicas",
            "`maxReplicas` must be at least `minReplicas`",
            field_path=".maxReplicas",
        ),
    )

    min_replicas: Annotated[int, Whole("Fewest replicas. When absent, 1.", 1, MAX_REPLICAS)] = 1
    max_replicas: Annotated[int, Whole("Most replicas.", 1, MAX_REPLICAS)]
    metrics: Annotated[
        tuple[Metric, ...],
        Items(
            "Metrics that determine the number of replicas; with several, the highest number is used. "
            "When absent, one metric CPU with a target of 70 percent.",
            Nested("One metric.", Metric),
            max_items=8,
            min_items=1,
            key="type",
        ),
    ] = (Metric(type=CPU),)

    def check(self, path: str) -> None:
        """Check that the bounds do not contradict each other."""
        if self.max_replicas < self.min_replicas:
            raise invalid(f"`{path}.maxReplicas` must be at least `{path}.minReplicas`")


@dataclass(frozen=True, slots=True, kw_only=True)
class Disruption(Block):
    """How many replicas may be evicted at the same time: `spec.disruption`."""

    max_unavailable: Annotated[
        int | str,
        WholeOrText(
            "Number of pods, or percentage of them, rounded up. When absent, 1.",
            max_length=4,
            rules=(
                Rule(
                    "type(self) == int ? self >= 1 && self <= 1000 : "
                    "string(self).matches('^([1-9][0-9]?|100)%$')",
                    "must be a number from 1 to 1000 or a percentage from 1% to 100%: a budget of 0 "
                    "would hold up every drain for ever",
                ),
            ),
        ),
    ] = 1

    def check(self, path: str) -> None:
        """Check that the budget is not 0, which would block every drain."""
        value = self.max_unavailable
        if not (_PERCENT.fullmatch(value) if isinstance(value, str) else value >= 1):
            raise invalid(
                f"`{path}.maxUnavailable` must be a number of at least 1 or a percentage above 0, such as 1 "
                "or 25%"
            )
