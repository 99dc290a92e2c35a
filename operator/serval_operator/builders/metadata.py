"""Labels and owners: what every child has in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serval_operator.api.naming import Manifest, digest, selector
from serval_operator.api.views import ModelView
from serval_operator.constants import (
    ANNOTATION_APPLIED,
    API_VERSION,
    COMPONENT_SERVER,
    LABEL_COMPONENT,
    MODEL_DEPLOYMENT,
)


def labels(name: str) -> dict[str, str]:
    """Labels of every child."""
    return {**selector(name), LABEL_COMPONENT: COMPONENT_SERVER}


def metadata(model: ModelView, name: str) -> dict[str, Any]:
    """Metadata of a child: name, labels, and the ModelDeployment as its owner."""
    return {
        "name": name,
        "namespace": model.namespace,
        "labels": labels(model.name),
        "ownerReferences": [
            {
                "apiVersion": API_VERSION,
                "kind": MODEL_DEPLOYMENT,
                "name": model.name,
                "uid": model.uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }


def child(model: ModelView, name: str, api_version: str, kind: str, spec: Mapping[str, Any]) -> Manifest:
    """Whole manifest of a child, owned by the ModelDeployment, with the hash of itself as an annotation.

    The hash tells later whether this very manifest is what was applied last.
    """
    manifest: Manifest = {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": metadata(model, name),
        "spec": dict(spec),
    }
    manifest["metadata"]["annotations"] = {ANNOTATION_APPLIED: digest(manifest)}
    return manifest
