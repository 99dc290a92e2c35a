"""The ConfigMap that binds all replicas of a revision to the model that the first one found."""

from __future__ import annotations

from typing import Final

from serval_contract.pin import PIN_FILE, Pin
from serval_operator.api.naming import Manifest, pin_name
from serval_operator.api.snapshots import OwnerView, RevisionView
from serval_operator.workload.manifests.metadata import metadata

REVISION_API: Final = "apps/v1"
REVISION_KIND: Final = "ControllerRevision"


def pin(model: OwnerView, record: RevisionView, *, version: int, digest: str) -> Manifest:
    """Whole ConfigMap, to be created once: it is immutable, as a revision's model is.

    The revision's ControllerRevision owns it, so that both go at the same time. Replicas mount it if it is
    there; the first ones start without it.

    Parameters
    ----------
    record:
        The ControllerRevision of the revision, as stored.
    version, digest:
        What the first replica fetched; the digest as ``sha256:`` and hexadecimal digits.
    """
    meta = metadata(model, pin_name(model.name, model.uid, record.key))
    meta["ownerReferences"] = [
        {
            "apiVersion": REVISION_API,
            "kind": REVISION_KIND,
            "name": record.name,
            "uid": record.uid,
            "controller": True,
        }
    ]
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": meta,
        "immutable": True,
        "data": {PIN_FILE: Pin(version, digest).dump()},
    }
