"""Names, labels and owners: what every child has in common."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson

from serval_operator.api.views import ModelView
from serval_operator.constants import (
    ANNOTATION_APPLIED,
    API_VERSION,
    COMPONENT_SERVER,
    HEADLESS_SUFFIX,
    LABEL_COMPONENT,
    LABEL_MANAGED_BY,
    LABEL_NAME,
    MANAGED_BY,
    MODEL_DEPLOYMENT,
)

Manifest = dict[str, Any]


def headless_name(name: str) -> str:
    """Name of the headless Service beside the Service of a ModelDeployment."""
    return name + HEADLESS_SUFFIX


def selector(name: str) -> dict[str, str]:
    """Labels that choose the pods of a ModelDeployment, of every revision. Never to be changed."""
    return {LABEL_MANAGED_BY: MANAGED_BY, LABEL_NAME: name}


def labels(name: str) -> dict[str, str]:
    """Labels of every child."""
    return {**selector(name), LABEL_COMPONENT: COMPONENT_SERVER}


def child(model: ModelView, name: str, api_version: str, kind: str, spec: Mapping[str, Any]) -> Manifest:
    """Whole manifest of a child, owned by the ModelDeployment, with the hash of itself as an annotation.

    The hash tells later whether this very manifest is what was applied last.
    """
    manifest: Manifest = {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
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
        },
        "spec": dict(spec),
    }
    manifest["metadata"]["annotations"] = {ANNOTATION_APPLIED: digest(manifest)}
    return manifest


def digest(value: Any) -> str:
    """First 10 hexadecimal digits of the SHA-256 of a JSON value, keys sorted."""
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()[:10]
