"""ModelDeployment: a model on replicas."""

from __future__ import annotations

from typing import Final

from serval_operator.api.resources import MODEL_DEPLOYMENTS
from serval_operator.kinds.model_deployment.claim import claim
from serval_operator.kinds.model_deployment.crd import MODEL_DEPLOYMENT_CRD
from serval_operator.kinds.model_deployment.plan import plan
from serval_operator.kinds.model_deployment.rights import APPLIES, OPTIONAL, RIGHTS, WATCHES
from serval_operator.reconcile.kind import Kind
from serval_operator.workload.status import CONDITIONS

KIND: Final = Kind(
    resource=MODEL_DEPLOYMENTS,
    crd=MODEL_DEPLOYMENT_CRD,
    rights=RIGHTS,
    plan=plan,
    applies=APPLIES,
    optional=OPTIONAL,
    watches=WATCHES,
    conditions=CONDITIONS,
    claim=claim,
)
