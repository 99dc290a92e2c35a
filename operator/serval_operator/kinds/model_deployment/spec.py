"""The spec of a ModelDeployment, typed: the source of its schema, of its parser and of its docs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from serval_operator.api.blocks.endpoint import Endpoint, Probes
from serval_operator.api.blocks.rollout import (
    CPU,
    MAX_REPLICAS,
    REQUESTS_IN_FLIGHT,
    Autoscaling,
    Disruption,
    Rollout,
)
from serval_operator.api.blocks.runtime import PodMetadata, Resources, Runtime
from serval_operator.api.blocks.scheduling import Accelerator, Scheduling
from serval_operator.api.blocks.source import ModelSource, SecretRef
from serval_operator.api.parse import invalid, parse_block
from serval_operator.api.schema import Block, Flag, Items, Nested, Rule, Whole
from serval_operator.constants import MAX_NAME

_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec(Block):
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
    runtime: Annotated[
        Runtime,
        Nested("Model server that serves the model. When absent, the operator's default runtime.", Runtime),
    ] = field(default_factory=Runtime)
    replicas: Annotated[
        int,
        Whole(
            "How many pods serve the model, each with its own accelerators. 0 stops them. "
            "Omit this field from Git if an autoscaler (including `autoscaling`) sets it.",
            0,
            MAX_REPLICAS,
            stored=True,
            shapes_pods=False,
        ),
    ] = 1
    resources: Annotated[
        Resources,
        Nested(
            "CPU, memory and scratch space of one replica. Accelerators are asked for under `accelerator`.",
            Resources,
        ),
    ] = field(default_factory=Resources)
    accelerator: Annotated[
        Accelerator | None,
        Nested(
            "Accelerators of each replica: those of a profile that the administrator configured, or a "
            "resource by name. When absent, the model runs on CPU. `scheduling` selects the nodes.",
            Accelerator,
        ),
    ] = None
    scheduling: Annotated[
        Scheduling,
        Nested(
            "Which nodes may take the pods, and how they are scheduled there, with or without accelerators.",
            Scheduling,
        ),
    ] = field(default_factory=Scheduling)
    endpoint: Annotated[Endpoint, Nested("How the model is called.", Endpoint)] = field(
        default_factory=Endpoint
    )
    probes: Annotated[
        Probes,
        Nested(
            "Numbers of the probes of the model server. What is asked is not configurable: startup "
            "and readiness ask whether the model answers, liveness whether the server does.",
            Probes,
        ),
    ] = field(default_factory=Probes)
    suspend: Annotated[
        bool,
        Flag(
            "Stops all replicas while true and keeps everything else, `replicas` included, as it is.",
            shapes_pods=False,
        ),
    ] = False
    rollout: Annotated[Rollout, Nested("How a change of this object goes out to the pods.", Rollout)] = field(
        default_factory=Rollout
    )
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
    image_pull_secrets: Annotated[
        tuple[SecretRef, ...],
        Items(
            "Secrets of the same namespace that the nodes use to pull the pods' images.",
            Nested("One Secret.", SecretRef),
            max_items=8,
            key="name",
        ),
    ] = ()
    pod_metadata: Annotated[
        PodMetadata,
        Nested(
            "Labels and annotations for the pods. Those that belong to Kubernetes, to Serval or to "
            "deployment tools are refused.",
            PodMetadata,
        ),
    ] = field(default_factory=PodMetadata)

    @property
    def wanted_replicas(self) -> int:
        """Pods that should run: none while suspended."""
        return 0 if self.suspend else self.replicas

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
    """Read a spec as the API server stored it.

    Parameters
    ----------
    name:
        Name of the custom resource: the default of the model's name.

    Raises
    ------
    InvalidSpec
        The message names the field and says what must hold.
    """
    if len(name) > MAX_NAME or not _NAME.fullmatch(name):
        raise invalid(
            f"`metadata.name` must be at most {MAX_NAME} of a-z, 0-9 and '-', starting with a letter"
        )
    model = spec.get("model")
    if isinstance(model, Mapping) and model and model.get("name") is None:
        # Set before parsing: `replace` on the frozen dataclasses would take as long as parsing.
        spec = {**spec, "model": {**model, "name": name}}
    return parse_block(ModelSpec, "spec", spec)
