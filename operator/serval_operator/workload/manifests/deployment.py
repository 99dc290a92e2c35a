"""The Deployment of what serves a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from serval_operator.api.blocks.rollout import IN_PLACE, SURGE, Rollout, Strategy
from serval_operator.api.naming import Manifest, pin_name, selector
from serval_operator.api.snapshots import OwnerView
from serval_operator.constants import (
    ANNOTATION_AWS_SKIP,
    ANNOTATION_AZURE_SKIP,
    CONTAINER_FRONT,
    CONTAINER_SERVER,
    LABEL_AZURE_IDENTITY,
    LABEL_OWNER_UID,
    LABEL_REVISION,
)
from serval_operator.workload.effective_spec import EffectiveSpec
from serval_operator.workload.manifests.metadata import child, labels
from serval_operator.workload.manifests.pod import pod_spec

NO_DEADLINE_SECONDS = 2**31 - 1
"""What Kubernetes takes for no deadline at all. Ours begins when a node has taken the pod; Kubernetes' would
begin before, and call a wait for a device a failure."""

_ROLLING = {
    SURGE: {"maxSurge": 1, "maxUnavailable": 0},
    IN_PLACE: {"maxSurge": 0, "maxUnavailable": 1},
}


def pod_template(model: OwnerView, resolved: EffectiveSpec, revision: str) -> dict[str, Any]:
    """Template of the pods, without the labels of its revision and of its owner's uid.

    Parameters
    ----------
    revision:
        Key of the revision, after which the ConfigMap is named that binds its pods to one model.
    """
    spec = resolved.spec
    metadata: dict[str, Any] = {"labels": {**spec.pod_metadata.labels, **labels(model.key)}}
    annotations = dict(spec.pod_metadata.annotations)
    if resolved.model.credentials and resolved.model.credentials.service_account_name:
        # The identity is for fetching: what a model's code could do with it is no one's wish.
        metadata["labels"][LABEL_AZURE_IDENTITY] = "true"
        others = (CONTAINER_SERVER, CONTAINER_FRONT) if resolved.front else (CONTAINER_SERVER,)
        annotations |= kept_from(others)
    if annotations:
        metadata["annotations"] = annotations
    return {
        "metadata": metadata,
        "spec": pod_spec(model.key, resolved, pin_name(model.name, model.uid, revision)),
    }


def kept_from(containers: Sequence[str]) -> dict[str, str]:
    """Annotations that keep an identity from containers: all but the one that fetches."""
    return {ANNOTATION_AZURE_SKIP: ";".join(containers), ANNOTATION_AWS_SKIP: ",".join(containers)}


def deployment(
    model: OwnerView,
    *,
    template: Mapping[str, Any],
    revision: str,
    replicas: int,
    strategy: Strategy,
    rollout: Rollout,
) -> Manifest:
    """Whole Deployment.

    It is always RollingUpdate with both numbers set: Kubernetes refuses a later change to Recreate where
    anybody else ever set one of them.

    Parameters
    ----------
    template:
        Pod template as `pod_template` renders it, today or when the revision was made.
    revision:
        Key of the template's revision.
    """
    meta = template["metadata"]
    identity = {LABEL_REVISION: revision, LABEL_OWNER_UID: model.uid}
    labelled = {**meta, "labels": {**meta["labels"], **identity}}
    spec: dict[str, Any] = {
        "replicas": replicas,
        "revisionHistoryLimit": 3,
        "progressDeadlineSeconds": NO_DEADLINE_SECONDS,
        "selector": {"matchLabels": selector(model.key)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": dict(_ROLLING[strategy])},
        "template": {**template, "metadata": labelled},
    }
    if rollout.min_ready_seconds:
        spec["minReadySeconds"] = rollout.min_ready_seconds
    return child(model, model.name, "apps/v1", "Deployment", spec)
