"""A kind that exists only in tests: it shares the blocks for the model's source and for scheduling."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar

from serval_operator.api.blocks.scheduling import Scheduling
from serval_operator.api.blocks.source import ModelSource
from serval_operator.api.crd import Column, Crd
from serval_operator.api.resources import Resource
from serval_operator.api.rights import Right
from serval_operator.api.schema import MAX_EXACT, Block, Flag, Nested, Rule, Whole, Words
from serval_operator.kinds import model_deployment


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
    suspend: Annotated[bool, Flag("Whether to start no step.", shapes_pods=False)] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ToyStatus(Block):
    """Status of a Toy."""

    observed_generation: Annotated[
        int | None, Whole("Generation of the spec that this status describes.", -1, MAX_EXACT)
    ] = None


TOY_CRD = Crd(
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
    columns=(Column("Steps", ".spec.steps", "Number of steps.", type="integer"),),
)

TOYS = Resource("serval.dev", "v1alpha1", TOY_CRD.plural, TOY_CRD.kind)
TOY_RIGHTS = (
    Right(
        Resource("batch", "v1", "jobs", "Job"),
        ("get", "list", "watch", "create", "patch", "delete"),
        "A Job plays the steps.",
    ),
)
TOY_KIND = replace(model_deployment.KIND, resource=TOYS, crd=TOY_CRD, rights=TOY_RIGHTS)
"""For what is generated from a kind; nothing reconciles it."""
