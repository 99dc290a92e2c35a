"""Labels and owners: what every child has in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serval_operator.api.child_metadata import applied_child, child_metadata
from serval_operator.api.naming import Key, Manifest, selector
from serval_operator.api.snapshots import OwnerView
from serval_operator.constants import (
    COMPONENT_SERVER,
    LABEL_COMPONENT,
)


def labels(key: Key) -> dict[str, str]:
    """Labels of every child of an object."""
    return {**selector(key), LABEL_COMPONENT: COMPONENT_SERVER}


def metadata(model: OwnerView, name: str) -> dict[str, Any]:
    """Metadata of a child: name, labels, and the custom resource as its owner."""
    return child_metadata(model, name, labels(model.key))


def child(model: OwnerView, name: str, api_version: str, kind: str, spec: Mapping[str, Any]) -> Manifest:
    """Whole manifest of a child that is applied."""
    return applied_child(model, name, labels(model.key), api_version, kind, spec)
