"""A kind that exists only in tests: it plays steps in a Job, and then lets pods watch.

Everything that a kind needs is in this folder. Outside of it, one line of the registry would name it.
"""

from __future__ import annotations

from typing import Final

from serval_operator.api.resources import MODEL_DEPLOYMENTS
from serval_operator.reconcile.kind import Kind
from support.toy.plan import CONDITIONS, claim, finished, plan, references
from support.toy.rights import APPLIES, TOY_RIGHTS, WATCHES
from support.toy.spec import TOY_CRD, TOYS

TOY_KIND: Final = Kind(
    resource=TOYS,
    crd=TOY_CRD,
    rights=TOY_RIGHTS,
    plan=plan,
    applies=APPLIES,
    watches=WATCHES,
    conditions=CONDITIONS,
    refers=(MODEL_DEPLOYMENTS,),
    references=references,
    finished=finished,
    claim=claim,
)
