"""The spec of a ModelDeployment, typed: the source of its schema, of its parser and of its docs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from serval_operator.api.blocks.rollout import CPU, REQUESTS_IN_FLIGHT, Autoscaling, Disruption
from serval_operator.api.blocks.served import ServedSpec, parse_served
from serval_operator.api.blocks.source import ModelSource
from serval_operator.api.parse import invalid
from serval_operator.api.schema import Nested, Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec(ServedSpec):
    """A ModelDeployment's spec, checked."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.autoscaling) || (has(self.autoscaling.metrics) && "
            "!self.autoscaling.metrics.exists(m, m.type == 'CPU')) || (has(self.resources) && "
            "((has(self.resources.requests) && 'cpu' in self.resources.requests) || "
            "(has(self.resources.limits) && 'cpu' in self.resources.limits)))",
            "`resources.requests.cpu` must be set when `autoscaling` scales on CPU, because the "
            "target is a share of it",
            field_path=".autoscaling",
        ),
        Rule(
            "!has(self.autoscaling) || !has(self.autoscaling.metrics) || "
            "!self.autoscaling.metrics.exists(m, m.type == 'RequestsInFlight') || (has(self.endpoint) "
            "&& has(self.endpoint.maxConcurrentRequests))",
            "`endpoint.maxConcurrentRequests` must be set when `autoscaling` scales on "
            "RequestsInFlight, because the target is a share of it",
            field_path=".autoscaling",
        ),
    )

    model: Annotated[ModelSource, Nested("What to serve and where its files are.", ModelSource)]
    autoscaling: Annotated[
        Autoscaling | None,
        Nested(
            "Lets a HorizontalPodAutoscaler set `replicas`. When absent, the operator creates none; "
            "another autoscaler, such as KEDA, may set `replicas`.",
            Autoscaling,
            shapes_pods=False,
        ),
    ] = None
    disruption: Annotated[
        Disruption | None,
        Nested(
            "How many replicas a drain may take away at the same time. When absent, 1 of two or more.",
            Disruption,
            shapes_pods=False,
        ),
    ] = None

    def check(self, path: str) -> None:
        """Check that there is what the metrics of the autoscaler are a share of."""
        types = {one.type for one in self.autoscaling.metrics} if self.autoscaling else set()
        if CPU in types and "cpu" not in {**self.resources.requests, **self.resources.limits}:
            raise invalid(
                f"`{path}.resources.requests.cpu` must be set, since `{path}.autoscaling` scales on CPU"
            )
        if REQUESTS_IN_FLIGHT in types and not self.endpoint.max_concurrent_requests:
            raise invalid(
                f"`{path}.endpoint.maxConcurrentRequests` must be set, since `{path}.autoscaling` scales on "
                "requests in flight"
            )


def parse_spec(name: str, spec: Mapping[str, Any]) -> ModelSpec:
    """Read a spec as the API server stored it; see `parse_served`."""
    return parse_served(ModelSpec, name, spec)
