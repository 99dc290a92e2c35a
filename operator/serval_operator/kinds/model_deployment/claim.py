"""What a ModelDeployment asks of the queue for devices. Pure."""

from __future__ import annotations

from serval_operator.api.rivals import Claim
from serval_operator.api.snapshots import OwnerView
from serval_operator.config import Configuration
from serval_operator.errors import InvalidSpec
from serval_operator.kinds.model_deployment.spec import parse_spec
from serval_operator.workload.resolve import resolve


def claim(owner: OwnerView, configuration: Configuration) -> Claim | None:
    """The claim of a ModelDeployment; None where it asks for no devices, or its spec cannot be used.

    `replicas` may be set by an autoscaler: it says how many pods are wanted, and the queue how many of them
    there may be.
    """
    try:
        spec = parse_spec(owner.name, owner.spec)
        placement = resolve(spec, spec.model, configuration).placement
    except InvalidSpec:
        return None
    if spec.accelerator is None or not placement.resource_name:
        return None
    return Claim(
        placement=placement,
        wanted=spec.wanted_replicas,
        priority_class=spec.scheduling.priority_class_name,
        when_busy=spec.accelerator.when_busy,
    )
