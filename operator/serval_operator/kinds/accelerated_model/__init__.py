"""AcceleratedModel: a network converted for an exclusive device, and served there."""

from __future__ import annotations

from typing import Final

from serval_operator.api.resources import ACCELERATED_MODELS
from serval_operator.kinds.accelerated_model.claim import claim
from serval_operator.kinds.accelerated_model.crd import ACCELERATED_MODEL_CRD
from serval_operator.kinds.accelerated_model.judge import CONDITIONS
from serval_operator.kinds.accelerated_model.plan import plan
from serval_operator.kinds.accelerated_model.rights import APPLIES, RIGHTS, WATCHES
from serval_operator.reconcile.kind import Kind

KIND: Final = Kind(
    resource=ACCELERATED_MODELS,
    crd=ACCELERATED_MODEL_CRD,
    rights=RIGHTS,
    plan=plan,
    applies=APPLIES,
    watches=WATCHES,
    conditions=CONDITIONS,
    claim=claim,
    always_claims=True,
)
