"""What children have in common, whichever kind they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serval_operator.api.naming import Manifest, digest
from serval_operator.api.snapshots import OwnerView
from serval_operator.constants import ANNOTATION_APPLIED, API_VERSION


def child_metadata(owner: OwnerView, name: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """Metadata of a child: name, labels, and the custom resource as its owner.

    With the owner reference, Kubernetes deletes the child after its owner.
    """
    return {
        "name": name,
        "namespace": owner.namespace,
        "labels": dict(labels),
        "ownerReferences": [
            {
                "apiVersion": API_VERSION,
                "kind": owner.kind,
                "name": owner.name,
                "uid": owner.uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }


def applied_child(
    owner: OwnerView,
    name: str,
    labels: Mapping[str, str],
    api_version: str,
    kind: str,
    spec: Mapping[str, Any],
) -> Manifest:
    """Whole manifest of a child that is applied, with a hash of itself as an annotation.

    The hash tells later whether this very manifest was applied last. Owner references are left out of it, so
    that a new version of the API group applies no child again. A change of theirs by another manager shows in
    the ownership of fields.
    """
    manifest: Manifest = {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": child_metadata(owner, name, labels),
        "spec": dict(spec),
    }
    hashed = {name: value for name, value in manifest["metadata"].items() if name != "ownerReferences"}
    manifest["metadata"]["annotations"] = {ANNOTATION_APPLIED: digest({**manifest, "metadata": hashed})}
    return manifest
