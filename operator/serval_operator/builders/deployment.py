"""The Deployment of a ModelDeployment."""

from __future__ import annotations

from typing import Any

from serval_operator.api.naming import Manifest, digest, selector
from serval_operator.api.resolved import IN_PLACE, SURGE, Resolved, Strategy
from serval_operator.api.views import ModelView
from serval_operator.builders.metadata import child, labels
from serval_operator.builders.pod import pod_spec
from serval_operator.constants import LABEL_REVISION

PROGRESS_DEADLINE_SECONDS = 1800
"""Half an hour: a node pool that must grow first takes more than Kubernetes' default of ten minutes."""

_ROLLING = {
    SURGE: {"maxSurge": 1, "maxUnavailable": 0},
    IN_PLACE: {"maxSurge": 0, "maxUnavailable": 1},
}


def pod_template(model: ModelView, resolved: Resolved) -> dict[str, Any]:
    """Template of the pods, without the label that names its revision."""
    spec = resolved.spec
    metadata: dict[str, Any] = {"labels": {**spec.pod_labels, **labels(model.name)}}
    if spec.pod_annotations:
        metadata["annotations"] = dict(spec.pod_annotations)
    return {"metadata": metadata, "spec": pod_spec(resolved)}


def revision(template: dict[str, Any]) -> str:
    """Name of a template's revision. Equal templates are one revision, whatever generation they come from.

    So an edit that changes no pod (replicas, or a new field whose default changes nothing) rolls no pod.
    """
    return digest(template)


def deployment(model: ModelView, resolved: Resolved) -> Manifest:
    """Whole Deployment.

    It is always RollingUpdate with both numbers set: Kubernetes refuses a later change to Recreate where
    anybody else ever set one of them.
    """
    template = pod_template(model, resolved)
    template["metadata"]["labels"][LABEL_REVISION] = revision(template)
    spec = {
        "replicas": resolved.spec.wanted_replicas,
        "revisionHistoryLimit": 3,
        "progressDeadlineSeconds": PROGRESS_DEADLINE_SECONDS,
        "selector": {"matchLabels": selector(model.name)},
        "strategy": _strategy(resolved.strategy),
        "template": template,
    }
    return child(model, model.name, "apps/v1", "Deployment", spec)


def _strategy(strategy: Strategy) -> dict[str, Any]:
    return {"type": "RollingUpdate", "rollingUpdate": dict(_ROLLING[strategy])}
