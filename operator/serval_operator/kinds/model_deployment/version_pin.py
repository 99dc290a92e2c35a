"""The version pin: replicas to come serve the version that the first one found. Pure."""

from __future__ import annotations

from serval_operator.api.actions import Creation
from serval_operator.api.naming import pin_name
from serval_operator.api.resources import CONFIG_MAPS
from serval_operator.api.snapshots import OwnerView
from serval_operator.kinds.model_deployment.desired import Desired
from serval_operator.kinds.model_deployment.manifests.pin import pin
from serval_operator.pods.observation import Observed
from serval_operator.pods.pod_state import fetch_result
from serval_operator.reconcile.plan import Outcome


def pin_creation(desired: Desired, observed: Observed) -> Creation | None:
    """The ConfigMap that binds the replicas; None where it is there, or where there is nothing to say yet."""
    model = observed.model
    if desired.spec.model.version is not None or _known(model, desired):
        return None
    record = observed.revision(desired.revision)
    results = (fetch_result(pod) for pod in observed.newest(desired.revision))
    found = next((one for one in results if one and one.version is not None and one.digest), None)
    if record is None or found is None or found.version is None:
        return None
    manifest = pin(model, record, version=found.version, digest=found.digest)
    # Without it replicas are not bound, but they serve.
    return Creation(CONFIG_MAPS, manifest, required=False)


def is_pinned(model: OwnerView, desired: Desired, outcome: Outcome) -> bool:
    """Whether replicas to come are bound to one version and digest."""
    if desired.spec.model.version is not None:
        return False
    name = pin_name(model.name, model.uid, desired.revision)
    return outcome.did(CONFIG_MAPS, name) or _known(model, desired)


def _known(model: OwnerView, desired: Desired) -> bool:
    """Whether the status says so already."""
    known = model.status.get("model") or {}
    return bool(known.get("pinned")) and model.status.get("revision") == desired.revision
