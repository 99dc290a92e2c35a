"""Metadata that objects of ours have in common, whichever kind they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serval_operator.api.snapshots import OwnerView
from serval_operator.constants import API_VERSION


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
