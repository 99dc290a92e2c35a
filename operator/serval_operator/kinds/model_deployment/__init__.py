"""ModelDeployment: a model on replicas."""

from __future__ import annotations

from typing import Final

from serval_operator.api.resources import MODEL_DEPLOYMENTS
from serval_operator.kinds.kind import Context, Kind
from serval_operator.kinds.model_deployment.crd import MODEL_DEPLOYMENT_CRD
from serval_operator.kinds.model_deployment.reconciler import OWNS, ModelReconciler
from serval_operator.pods.device_prober import Devices
from serval_operator.runtime.pod_metrics import HttpProber
from serval_operator.runtime.publisher import Publisher
from serval_operator.workload.gatherer import Gatherer
from serval_operator.workload.rollout_decider import Decider


def _controller(context: Context) -> ModelReconciler:
    return ModelReconciler(
        context.api,
        Gatherer(context.api, context.cache, OWNS, context.now),
        Decider(context.supplier, hide_foreign=context.settings.hide_foreign_holders),
        context.cache,
        context.configuration,
        Publisher(context.api, MODEL_DEPLOYMENTS, context.cache, context.recorder, context.clock),
        context.metrics,
        Devices(HttpProber(), context.wake),
    )


KIND: Final = Kind(MODEL_DEPLOYMENTS, MODEL_DEPLOYMENT_CRD, _controller)
