"""What a ModelDeployment's spec comes to: the typed spec, its revision, and what its pods ask of nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from serval_contract.schemes import OCI
from serval_operator.api.blocks.names import AUTO
from serval_operator.api.blocks.rollout import IN_PLACE, SURGE, Rollout, Strategy
from serval_operator.api.capabilities import DEVICE_REPORT, asked_capabilities
from serval_operator.api.conditions import Blocked
from serval_operator.api.facts import Facts
from serval_operator.api.naming import Manifest, digest
from serval_operator.api.nodes import NodeView
from serval_operator.api.placement import Placement
from serval_operator.api.resources import (
    AUTOSCALERS,
    DEPLOYMENTS,
    DISRUPTION_BUDGETS,
    SERVICES,
    Children,
    Resource,
)
from serval_operator.api.snapshots import DeploymentView, OwnerView, PodView, RevisionView
from serval_operator.config import Configuration
from serval_operator.errors import InvalidSpec
from serval_operator.kinds.model_deployment.image_volumes import mounts_model
from serval_operator.kinds.model_deployment.manifests.autoscaler import autoscaler
from serval_operator.kinds.model_deployment.manifests.deployment import deployment, pod_template
from serval_operator.kinds.model_deployment.manifests.disruption import disruption_budget
from serval_operator.kinds.model_deployment.manifests.revision import facts_of
from serval_operator.kinds.model_deployment.manifests.service import headless_service, service
from serval_operator.kinds.model_deployment.resolve import is_scalable, resolve
from serval_operator.kinds.model_deployment.revision_key import key_of, shape
from serval_operator.kinds.model_deployment.spec import ModelSpec, parse_spec
from serval_operator.pods.observation import Observed
from serval_operator.workload.workload import Workload


@dataclass(frozen=True, slots=True)
class Desired:
    """What should be, before anything is known of what there is.

    Parameters
    ----------
    template:
        Pod template as the operator renders it today. What runs may come from an older rendering of the
        same revision. Where nothing can be rendered today, the recorded template.
    facts:
        Facts about the pods of the newest revision: as they were recorded with it, else as they would be
        today.
    unavailable:
        Why the operator could not render the pods today; None where it can. A recorded revision needs
        nothing of the configuration, so its pods run, scale and stop as before.
    """

    spec: ModelSpec
    workload: Workload
    template: dict[str, Any]
    facts: Facts
    unavailable: Blocked | None = None

    @property
    def revision(self) -> str:
        """Key of the newest revision."""
        return self.workload.revision

    @property
    def wanted(self) -> int:
        """Pods that should run."""
        return self.workload.wanted

    @property
    def placement(self) -> Placement:
        """What each pod of the newest revision asks of a node."""
        return self.workload.placement

    @property
    def credentials(self) -> str:
        """Name of the Secret with the credentials of the model's store; empty for none."""
        credentials = self.spec.model.credentials
        return credentials.secret_name if credentials else ""


def compute_desired(
    model: OwnerView,
    configuration: Configuration,
    records: Sequence[RevisionView] = (),
    nodes: Sequence[NodeView] = (),
) -> Desired:
    """Read a ModelDeployment under a configuration.

    Parameters
    ----------
    records:
        Its kept revisions.
    nodes:
        All nodes.

    Raises
    ------
    InvalidSpec
        The spec cannot be used; the reason and message are for the user. Where the revision is recorded, this
        is so only for what the spec itself says, whatever the configuration lacks.
    """
    spec = parse_spec(model.name, model.spec)
    values = shape(spec)
    kept = _recorded(spec, values, records)
    try:
        resolved = resolve(spec, configuration)
    except InvalidSpec as error:
        if kept is None:
            raise
        unavailable = Blocked(error.reason, error.message)
        return _desired(spec, configuration, kept.key, kept.facts(), kept.template(), unavailable)
    key = kept.key if kept else key_of(values, fronted=resolved.front is not None)
    kept = next((one for one in records if one.key == key), None)
    if spec.model.scheme == OCI.name:
        resolved = replace(resolved, image_volume=mounts_model(resolved, kept, nodes))
    facts = kept.facts() if kept else facts_of(resolved)
    return _desired(spec, configuration, key, facts, pod_template(model, resolved, key))


def _desired(
    spec: ModelSpec,
    configuration: Configuration,
    key: str,
    facts: Facts,
    template: dict[str, Any],
    unavailable: Blocked | None = None,
) -> Desired:
    return Desired(
        spec=spec,
        facts=facts,
        workload=Workload(
            revision=key,
            wanted=spec.wanted_replicas,
            rollout=spec.rollout,
            # What an administrator says of nodes to come is read anew, whatever was recorded.
            placement=replace(
                facts.placement,
                scalable=is_scalable(spec, configuration),
                when_unavailable=spec.accelerator.when_unavailable if spec.accelerator else AUTO,
            ),
        ),
        template=template,
        unavailable=unavailable,
    )


def _recorded(
    spec: ModelSpec, values: dict[str, Any], records: Sequence[RevisionView]
) -> RevisionView | None:
    """The record of the newest revision, found without the configuration; None if there is none.

    A front is decided once for a revision: a runtime that has learned, or lost, what the front is there for
    changes what would be rendered today, and restarts nothing. Pods without a front may also have been made
    for a spec that did not ask for what it adds, since such a wish alone leaves no trace in the key.
    """
    by_key = {one.key: one for one in records}
    plain = by_key.get(key_of(values))
    asked = {one.name for one in asked_capabilities(spec) if one.added_by_front}
    if not asked:
        return plain
    fronted = by_key.get(key_of(values, fronted=True))
    return fronted or (plain if plain and asked <= plain.facts().capabilities else None)


def outdated(desired: Desired, kept: RevisionView | None) -> bool:
    """Whether the operator would render other pods today than when the revision was made."""
    return kept is not None and kept.template_digest != digest(desired.template)


def template_of(desired: Desired, kept: RevisionView | None) -> dict[str, Any]:
    """Pod template of a revision: as it was rendered when the revision was made, else as it would be now.

    Parameters
    ----------
    kept:
        The revision as it was recorded; None for the newest one where it is not recorded yet.
    """
    return kept.template() if kept else desired.template


def reporting(desired: Desired, observed: Observed) -> Sequence[PodView]:
    """Pods of the newest revision that hold a device and report what they run on."""
    applies = bool(desired.placement.resource_name) and DEVICE_REPORT.name in desired.facts.capabilities
    return observed.newest(desired.revision) if applies else ()


def running(desired: Desired, kept: RevisionView | None) -> Facts:
    """Facts about the pods of the revision that the Deployment carries.

    Parameters
    ----------
    kept:
        That revision; None where none is recorded yet.
    """
    return kept.facts() if kept and kept.key != desired.revision else desired.facts


def halted(model: OwnerView, held: DeploymentView, kept: RevisionView) -> Children:
    """The Deployment as it is, without pods.

    Parameters
    ----------
    kept:
        The revision that it carries.
    """
    manifest = deployment(
        model,
        template=kept.template(),
        revision=kept.key,
        replicas=0,
        strategy=SURGE if held.surge else IN_PLACE,
        rollout=Rollout(),
    )
    return ((DEPLOYMENTS, manifest),)


def children(
    model: OwnerView,
    desired: Desired,
    *,
    template: dict[str, Any],
    revision: str,
    replicas: int,
    strategy: Strategy,
    placeless: int = 0,
) -> Children:
    """Whole manifests of all children but the revisions, in the order of their making.

    Parameters
    ----------
    placeless:
        Replicas that lack a place on a node.
    """
    spec = desired.spec
    workload = deployment(
        model,
        template=template,
        revision=revision,
        replicas=replicas,
        strategy=strategy,
        rollout=spec.rollout,
    )
    made: list[tuple[Resource, Manifest]] = [
        (DEPLOYMENTS, workload),
        (SERVICES, service(model)),
        (SERVICES, headless_service(model)),
    ]
    scaler, budget = autoscaler(model, spec), disruption_budget(model, spec, placeless)
    if scaler is not None:
        made.append((AUTOSCALERS, scaler))
    if budget is not None:
        made.append((DISRUPTION_BUDGETS, budget))
    return tuple(made)
