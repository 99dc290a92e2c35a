"""What an AcceleratedModel asks of the queue for devices. Pure."""

from __future__ import annotations

from dataclasses import replace

from serval_operator.api.rivals import Claim
from serval_operator.api.snapshots import OwnerView
from serval_operator.api.unstructured import mapping
from serval_operator.config import Configuration
from serval_operator.errors import InvalidSpec
from serval_operator.kinds.accelerated_model.artifact import Made, model_name
from serval_operator.kinds.accelerated_model.conversion import succeeded
from serval_operator.kinds.accelerated_model.device import resolve
from serval_operator.kinds.accelerated_model.spec import AcceleratedSpec, parse_spec
from serval_operator.workload.claim import served_claim


def claim(owner: OwnerView, configuration: Configuration) -> Claim | None:
    """The claim of an AcceleratedModel; None where its spec cannot be used.

    Before its artifact is there it is not prepared: no pods can be made, other than those of an older
    revision that its Deployment carries.
    """
    try:
        spec = parse_spec(owner.name, owner.spec)
        source = Made("").source(model_name(owner.name, spec))
        found = served_claim(spec, resolve(spec, source, Made(""), configuration).placement)
    except InvalidSpec:
        return None
    return None if found is None else replace(found, prepared=_has_artifact(owner, spec))


def _has_artifact(owner: OwnerView, spec: AcceleratedSpec) -> bool:
    """Whether the spec names an artifact, or the status says that there is one.

    The success of the Job is stored before anything is made of its result.
    """
    converted = bool(succeeded(owner.status))
    return bool(spec.artifact or converted or mapping(owner.status, "conversion").get("artifact"))
