"""What a ModelDeployment asks of the queue for devices. Pure."""

from __future__ import annotations

from serval_operator.api.rivals import Claim
from serval_operator.api.snapshots import OwnerView
from serval_operator.config import Configuration
from serval_operator.errors import InvalidSpec
from serval_operator.kinds.model_deployment.spec import parse_spec
from serval_operator.workload.claim import served_claim
from serval_operator.workload.resolve import resolve


def claim(owner: OwnerView, configuration: Configuration) -> Claim | None:
    """The claim of a ModelDeployment; None if it asks for no devices, or its spec cannot be used."""
    try:
        spec = parse_spec(owner.name, owner.spec)
        return served_claim(spec, resolve(spec, spec.model, configuration).placement)
    except InvalidSpec:
        return None
