"""Spec, status and CRD of Toys: they share the blocks for the model's source, for scheduling and for Jobs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Final

from serval_operator.api.blocks.conditions import Condition, conditions
from serval_operator.api.blocks.devices import AcceleratorStatus, ReplacedBy, Replacement
from serval_operator.api.blocks.jobs import STATUS_JOBS, JobStatus
from serval_operator.api.blocks.scheduling import Accelerator, Scheduling
from serval_operator.api.blocks.source import ModelSource
from serval_operator.api.crd import Column, Crd
from serval_operator.api.resources import Resource
from serval_operator.api.schema import MAX_EXACT, Block, Flag, Nested, Rule, Text, Whole, Words


@dataclass(frozen=True, slots=True, kw_only=True)
class ToySpec(Block):
    """Spec of a Toy."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.parallel) || self.steps >= self.parallel",
            "`steps` must be at least `parallel`",
            ".steps",
        ),
    )

    model: Annotated[ModelSource, Nested("Model to play with.", ModelSource)]
    steps: Annotated[int, Whole("Number of steps.", 1, 100)]
    parallel: Annotated[int | None, Whole("Steps at the same time. When absent, all.", 1, 100)] = None
    mode: Annotated[str, Words("Order of the steps.", ("Forward", "Backward"), stored=True)] = "Forward"
    scheduling: Annotated[Scheduling, Nested("Which nodes may take the pods.", Scheduling)] = field(
        default_factory=Scheduling
    )
    accelerator: Annotated[
        Accelerator | None, Nested("Accelerators of each pod that watches.", Accelerator)
    ] = None
    suspend: Annotated[bool, Flag("Whether to start no step.", shapes_pods=False)] = False
    after: Annotated[
        str, Text("Name of a ModelDeployment that must be ready before the first step.", max_length=40)
    ] = ""
    watchers: Annotated[int | None, Whole("Pods that watch once the steps are played.", 0, 10)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToyStatus(Block):
    """Status of a Toy."""

    observed_generation: Annotated[
        int | None, Whole("Generation of the spec that this status describes.", -1, MAX_EXACT)
    ] = None
    watching: Annotated[int | None, Whole("Pods that watch.", 0, 10)] = None
    jobs: Annotated[tuple[JobStatus, ...], STATUS_JOBS] = ()
    accelerator: Annotated[
        AcceleratorStatus | None, Nested("What pods wait for, and who has it.", AcceleratorStatus)
    ] = None
    replacement: Annotated[
        Replacement | None, Nested("The object whose place this one took.", Replacement)
    ] = None
    replaced_by: Annotated[
        ReplacedBy | None, Nested("The object that took the place of this one.", ReplacedBy)
    ] = None
    conditions: Annotated[
        tuple[Condition, ...],
        conditions("Ready, Allowed and Played; Reconciling and Stalled only while they are True."),
    ] = ()


TOY_CRD: Final = Crd(
    kind="Toy",
    plural="toys",
    short_names=("toy",),
    description="A Toy plays with a model in steps.",
    spec=ToySpec,
    spec_description="What to play.",
    status=ToyStatus,
    status_description="Progress.",
    # Tests of other kinds list the category, and kubectl remembers kinds that were deleted meanwhile.
    categories=(),
    columns=(
        Column("Ready", '.status.conditions[?(@.type=="Ready")].status', "Whether it is played and watched."),
        Column("Reason", '.status.conditions[?(@.type=="Ready")].reason', "Why it is, or is not, ready."),
        Column("Steps", ".spec.steps", "Number of steps.", type="integer"),
    ),
    status_default={"observedGeneration": -1},
)
TOYS: Final = Resource("serval.dev", "v1alpha1", TOY_CRD.plural, TOY_CRD.kind)
