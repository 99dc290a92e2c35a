"""What a ModelDeployment's spec comes to under a configuration."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from serval_operator.api.nodes import NodeView
from serval_operator.api.snapshots import OwnerView, RevisionView
from serval_operator.config import Configuration
from serval_operator.kinds.model_deployment.spec import ModelSpec
from serval_operator.workload import resolve as shared
from serval_operator.workload.desired import Desired, compute_desired
from serval_operator.workload.effective_spec import EffectiveSpec


def resolve(spec: ModelSpec, configuration: Configuration) -> EffectiveSpec:
    """Look up what the spec names; see `serval_operator.workload.resolve`."""
    return shared.resolve(spec, spec.model, configuration)


def desired_of(
    owner: OwnerView,
    spec: ModelSpec,
    configuration: Configuration,
    records: Sequence[RevisionView] = (),
    nodes: Sequence[NodeView] = (),
) -> Desired:
    """Find out what a spec comes to; see `serval_operator.workload.desired.compute_desired`."""
    found = partial(resolve, spec, configuration)
    return compute_desired(owner, spec, spec.model, found, configuration, records=records, nodes=nodes)
