"""What an AcceleratedModel asks of the queue for devices. Pure."""

from __future__ import annotations

from dataclasses import replace

from serval_operator.api.rivals import Claim
from serval_operator.api.snapshots import OwnerView
from serval_operator.api.unstructured import mapping, whole
from serval_operator.config import Configuration
from serval_operator.errors import InvalidSpec
from serval_operator.jobs.record import parse_records
from serval_operator.kinds.accelerated_model.artifact import Made, model_name
from serval_operator.kinds.accelerated_model.conversion import JOB
from serval_operator.kinds.accelerated_model.device import resolve
from serval_operator.kinds.accelerated_model.spec import AcceleratedSpec, parse_spec
from serval_operator.workload.claim import served_claim


def claim(owner: OwnerView, configuration: Configuration) -> Claim | None:
    """The claim of an AcceleratedModel; None where its spec cannot be used.

    Before its artifact is there it wants no device, unless pods of an older revision run: these keep theirs.
    """
    try:
        spec = parse_spec(owner.name, owner.spec)
        source = Made("").source(model_name(owner.name, spec))
        found = served_claim(spec, resolve(spec, source, Made(""), configuration).placement)
    except InvalidSpec:
        return None
    return found if found is None or _may_have_pods(owner, spec) else replace(found, wanted=0)


def _may_have_pods(owner: OwnerView, spec: AcceleratedSpec) -> bool:
    """Whether the status says that there is an artifact, or that there are pods.

    The success of the Job is stored before anything is made of its result.
    """
    converted = any(one.name == JOB and one.phase == "Succeeded" for one in parse_records(owner.status))
    has_artifact = converted or bool(mapping(owner.status, "conversion").get("artifact"))
    return spec.artifact is not None or has_artifact or bool(whole(owner.status.get("replicas")))
