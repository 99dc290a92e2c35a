"""The PodDisruptionBudget of a ModelDeployment."""

from __future__ import annotations

from serval_operator.api.blocks.rollout import Disruption
from serval_operator.api.naming import Manifest, selector
from serval_operator.api.resources import DISRUPTION_BUDGETS
from serval_operator.api.snapshots import DisruptionView, OwnerView
from serval_operator.kinds.model_deployment.spec import ModelSpec
from serval_operator.pods.observation import Observed
from serval_operator.workload.manifests.metadata import child
from serval_operator.workload.placeless import count_placeless


def disruption_budget(model: OwnerView, spec: ModelSpec, placeless: int = 0) -> Manifest | None:
    """Whole PodDisruptionBudget; None for one replica that no one asked a budget for.

    It always leaves at least one pod to evict, and pods that do not answer may always be evicted. A replica
    without a place does not count against it: it may lack one forever, and the other replicas must still be
    evictable.

    Parameters
    ----------
    placeless:
        Replicas that lack a place on a node.
    """
    if spec.replicas < 2 and not spec.autoscaling and not spec.disruption:
        return None
    return child(
        model,
        model.name,
        "policy/v1",
        "PodDisruptionBudget",
        {
            "maxUnavailable": _raised(spec, placeless) if placeless else _asked(spec),
            "selector": {"matchLabels": selector(model.key)},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    )


def placeless_replicas(observed: Observed, spec: ModelSpec, replicas: int) -> int:
    """Count replicas that the budget must leave out, starting from those that it leaves out already.

    Parameters
    ----------
    replicas:
        Pods that the Deployment is asked for.
    """
    view = observed.child(DISRUPTION_BUDGETS, observed.model.name)
    allowed = view.max_unavailable if isinstance(view, DisruptionView) else 0
    return count_placeless(observed, replicas=replicas, known=max(allowed - _least(spec), 0))


def _asked(spec: ModelSpec) -> int | str:
    return (spec.disruption or Disruption()).max_unavailable


def _least(spec: ModelSpec) -> int:
    """What is asked for, as a number of pods: a percentage counts as Kubernetes counts it, rounded up."""
    asked = _asked(spec)
    return -(-spec.replicas * int(asked[:-1]) // 100) if isinstance(asked, str) else asked


def _raised(spec: ModelSpec, placeless: int) -> int:
    """What is asked for and the replicas without a place; all of them at most."""
    least = _least(spec)
    return max(least, min(least + placeless, spec.replicas))
