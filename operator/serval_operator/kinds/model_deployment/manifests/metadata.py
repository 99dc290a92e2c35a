"""Labels and owners: what every child has in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serval_operator.api.child_metadata import child_metadata
from serval_operator.api.naming import Key, Manifest, digest, selector
from serval_operator.api.snapshots import OwnerView
from serval_operator.constants import (
    ANNOTATION_APPLIED,
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
    """Whole manifest of a child, owned by the custom resource, with a hash of itself as an annotation.

    The hash tells later whether this very manifest was applied last. Owner references are left out of it, so
    that a new version of the API group applies no child again. A change of theirs by another manager shows in
    the ownership of fields.
    """
    manifest: Manifest = {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": metadata(model, name),
        "spec": dict(spec),
    }
    hashed = {name: value for name, value in manifest["metadata"].items() if name != "ownerReferences"}
    manifest["metadata"]["annotations"] = {ANNOTATION_APPLIED: digest({**manifest, "metadata": hashed})}
    return manifest
