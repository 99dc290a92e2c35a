"""The PodDisruptionBudget of a ModelDeployment."""

from __future__ import annotations

from serval_operator.api.blocks.rollout import Disruption
from serval_operator.api.naming import Manifest, selector
from serval_operator.api.snapshots import OwnerView
from serval_operator.kinds.model_deployment.manifests.metadata import child
from serval_operator.kinds.model_deployment.spec import ModelSpec


def disruption_budget(model: OwnerView, spec: ModelSpec) -> Manifest | None:
    """Whole PodDisruptionBudget; None for one replica that nobody asked a budget for.

    It always leaves at least one pod to evict, so that no drain hangs for ever, and pods that do not answer
    may always be evicted: a drain must not wait for a model that is broken anyway.
    """
    if spec.replicas < 2 and not spec.autoscaling and not spec.disruption:
        return None
    budget = spec.disruption or Disruption()
    return child(
        model,
        model.name,
        "policy/v1",
        "PodDisruptionBudget",
        {
            "maxUnavailable": budget.max_unavailable,
            "selector": {"matchLabels": selector(model.key)},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    )
