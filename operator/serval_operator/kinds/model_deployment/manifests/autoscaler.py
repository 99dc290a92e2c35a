"""The HorizontalPodAutoscaler of a ModelDeployment."""

from __future__ import annotations

from typing import Any, Final

from serval_contract.metrics import REQUESTS_GAUGE
from serval_operator.api.blocks.rollout import CPU, Metric
from serval_operator.api.naming import Manifest
from serval_operator.api.snapshots import OwnerView
from serval_operator.constants import API_VERSION, CONTAINER_SERVER
from serval_operator.kinds.model_deployment.spec import ModelSpec
from serval_operator.workload.manifests.metadata import child

BEHAVIOR: Final[dict[str, Any]] = {
    "scaleUp": {
        "stabilizationWindowSeconds": 0,
        "policies": [
            {"type": "Percent", "value": 100, "periodSeconds": 60},
            {"type": "Pods", "value": 2, "periodSeconds": 60},
        ],
    },
    "scaleDown": {
        "stabilizationWindowSeconds": 600,
        "policies": [{"type": "Pods", "value": 1, "periodSeconds": 120}],
    },
}
"""Up at once, but at most twice as many in a minute: a new replica fetches and loads before it helps, and
until then the load still looks too high. Down one at a time, after ten minutes without need: a device that is
given up may be someone else's when it is wanted back."""


def autoscaler(model: OwnerView, spec: ModelSpec) -> Manifest | None:
    """Whole HorizontalPodAutoscaler; None where none is asked for, or while no replica is wanted.

    It targets the ModelDeployment and not the Deployment: the autoscaler writes ``spec.replicas`` through the
    scale subresource, and the operator passes it on.
    """
    autoscaling = spec.autoscaling
    if autoscaling is None or spec.wanted_replicas == 0:
        return None
    most_requests = spec.endpoint.max_concurrent_requests or 0
    target = {"apiVersion": API_VERSION, "kind": model.key.kind, "name": model.name}
    return child(
        model,
        model.name,
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        {
            "scaleTargetRef": target,
            "minReplicas": autoscaling.min_replicas,
            "maxReplicas": autoscaling.max_replicas,
            "metrics": [_metric(one, most_requests) for one in autoscaling.metrics],
            "behavior": BEHAVIOR,
        },
    )


def _metric(metric: Metric, most_requests: int) -> dict[str, Any]:
    """The metric, of the server's container alone: other containers of the pod say nothing about its load.

    Parameters
    ----------
    most_requests:
        Requests that a replica works on at once: a metric of requests is a share of it.
    """
    if metric.type == CPU:
        share = {"type": "Utilization", "averageUtilization": metric.target_utilization}
        return {
            "type": "ContainerResource",
            "containerResource": {"name": "cpu", "container": CONTAINER_SERVER, "target": share},
        }
    average = {
        "type": "AverageValue",
        "averageValue": _thousandths(most_requests * metric.target_utilization * 10),
    }
    return {"type": "Pods", "pods": {"metric": {"name": REQUESTS_GAUGE}, "target": average}}


def _thousandths(amount: int) -> str:
    """A quantity of so many thousandths, as the API server writes it."""
    return f"{amount}m" if amount % 1000 else str(amount // 1000)
