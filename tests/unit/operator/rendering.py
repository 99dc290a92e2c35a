"""A spec's Deployment, as it is made where nothing was rendered before."""

from __future__ import annotations

from serval_operator.api.blocks.rollout import IN_PLACE, SURGE
from serval_operator.api.naming import Manifest
from serval_operator.api.snapshots import OwnerView
from serval_operator.workload.effective_spec import EffectiveSpec
from serval_operator.workload.manifests.deployment import deployment, pod_template
from serval_operator.workload.revision_key import revision_key


def rendered(model: OwnerView, resolved: EffectiveSpec) -> Manifest:
    """The whole Deployment of a resolved spec."""
    key = revision_key(resolved.spec, fronted=resolved.front is not None)
    return deployment(
        model,
        template=pod_template(model, resolved, key),
        revision=key,
        replicas=resolved.spec.wanted_replicas,
        strategy=IN_PLACE if resolved.placement.resource_name else SURGE,
        rollout=resolved.spec.rollout,
    )
