"""The part of a spec that all kinds that serve a model have in common."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, TypeVar

from serval_operator.api.blocks.endpoint import Endpoint, Probes
from serval_operator.api.blocks.rollout import MAX_REPLICAS, Rollout
from serval_operator.api.blocks.runtime import PodMetadata, Resources, Runtime
from serval_operator.api.blocks.scheduling import Accelerator, Scheduling
from serval_operator.api.blocks.source import SecretRef
from serval_operator.api.parse import invalid, parse_block
from serval_operator.api.schema import Block, Flag, Items, Nested, Rule, Whole
from serval_operator.constants import MAX_NAME

NAME_RULE: Final = Rule(
    f"self.metadata.name.size() <= {MAX_NAME} && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
    "metadata.name must start with a letter, hold only lower-case letters, digits and hyphens, end "
    f"with a letter or digit, and be at most {MAX_NAME} characters, because Services are named "
    "after it",
)
"""Rule for the names of custom resources that are served."""
Served = TypeVar("Served", bound="ServedSpec")
_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedSpec(Block):
    """How a model is served: replicas, what each of them is, and how changes go out."""

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


def check_name(name: str) -> None:
    """Check the name of a custom resource that is served, as `NAME_RULE` does.

    Raises
    ------
    InvalidSpec
        The message says what must hold.
    """
    if len(name) > MAX_NAME or not _NAME.fullmatch(name):
        raise invalid(
            f"`metadata.name` must be at most {MAX_NAME} of a-z, 0-9 and '-', starting with a letter"
        )


def parse_served(block: type[Served], name: str, spec: Mapping[str, Any]) -> Served:
    """Read a spec as the API server stored it.

    Parameters
    ----------
    block:
        The spec of a kind.
    name:
        Name of the custom resource: the default of the model's name.

    Raises
    ------
    InvalidSpec
        The message names the field and says what must hold.
    """
    check_name(name)
    model = spec.get("model")
    if isinstance(model, Mapping) and model and model.get("name") is None:
        # Set before parsing: `replace` on the frozen dataclasses would take as long as parsing.
        spec = {**spec, "model": {**model, "name": name}}
    return parse_block(block, "spec", spec)
