"""A kind of tests that has no pods and no children: its objects only have a status."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from serval_operator.api.blocks.conditions import Condition, conditions
from serval_operator.api.conditions import Condition as Judged
from serval_operator.api.crd import Column, Crd
from serval_operator.api.judgement import Judgement
from serval_operator.api.resources import Resource
from serval_operator.api.schema import MAX_EXACT, Block, Text, Whole
from serval_operator.constants import READY
from serval_operator.pods.observation import Observed
from serval_operator.reasons import DONE
from serval_operator.reconcile.kind import Kind
from serval_operator.reconcile.plan import Outcome, Plan, Situation


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteSpec(Block):
    """Spec of a Note."""

    text: Annotated[str, Text("What to remember.", max_length=1024)]


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteStatus(Block):
    """Status of a Note."""

    observed_generation: Annotated[
        int | None, Whole("Generation of the spec that this status describes.", -1, MAX_EXACT)
    ] = None
    length: Annotated[int | None, Whole("Characters of the text.", 0, 1024)] = None
    conditions: Annotated[tuple[Condition, ...], conditions("Ready.")] = ()


NOTE_CRD: Final = Crd(
    kind="Note",
    plural="notes",
    short_names=(),
    description="A Note is remembered.",
    spec=NoteSpec,
    spec_description="What to remember.",
    status=NoteStatus,
    status_description="Whether it is remembered.",
    categories=(),
    columns=(Column("Length", ".status.length", "Characters of the text.", type="integer"),),
)


def _plan(_: Situation) -> Plan:
    return Plan(_judge)


def _judge(observed: Observed, _: Outcome) -> Judgement:
    length = len(observed.model.spec.get("text", ""))
    return Judgement({"length": length}, (Judged(READY, "True", DONE, "remembered"),))


NOTE_KIND: Final = Kind(
    resource=Resource("serval.dev", "v1alpha1", NOTE_CRD.plural, NOTE_CRD.kind),
    crd=NOTE_CRD,
    rights=(),
    plan=_plan,
    conditions=(READY,),
)
