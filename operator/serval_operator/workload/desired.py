"""What a spec comes to: the typed spec, its revision, and what its pods ask of nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from serval_contract.schemes import OCI
from serval_operator.api.blocks.names import AUTO
from serval_operator.api.blocks.rollout import IN_PLACE, SURGE, Rollout
from serval_operator.api.blocks.served import ServedSpec
from serval_operator.api.blocks.source import ModelSource
from serval_operator.api.capabilities import DEVICE_REPORT, asked_capabilities
from serval_operator.api.conditions import Blocked
from serval_operator.api.facts import Facts
from serval_operator.api.naming import digest
from serval_operator.api.nodes import NodeView
from serval_operator.api.placement import Placement
from serval_operator.api.resources import DEPLOYMENTS, Children
from serval_operator.api.snapshots import DeploymentView, OwnerView, PodView, RevisionView
from serval_operator.config import Configuration
from serval_operator.errors import InvalidSpec
from serval_operator.pods.observation import Observed
from serval_operator.workload.effective_spec import EffectiveSpec
from serval_operator.workload.image_volumes import mounts_model
from serval_operator.workload.manifests.deployment import deployment, pod_template
from serval_operator.workload.manifests.revision import facts_of
from serval_operator.workload.resolve import is_scalable
from serval_operator.workload.revision_key import key_of, shape
from serval_operator.workload.workload import Workload


@dataclass(frozen=True, slots=True)
class Desired:
    """What should be, before anything is known of what there is.

    Parameters
    ----------
    model:
        The model that the pods fetch and serve.
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

    spec: ServedSpec
    model: ModelSource
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
        credentials = self.model.credentials
        return credentials.secret_name if credentials else ""


def compute_desired(
    owner: OwnerView,
    spec: ServedSpec,
    model: ModelSource,
    resolve: Callable[[], EffectiveSpec],
    configuration: Configuration,
    *,
    records: Sequence[RevisionView] = (),
    nodes: Sequence[NodeView] = (),
) -> Desired:
    """Find out what a spec comes to under a configuration.

    Parameters
    ----------
    model:
        The model that the pods fetch and serve.
    resolve:
        Looks up what the spec names; raises `InvalidSpec`.
    records:
        Kept revisions of the owner.
    nodes:
        All nodes.

    Raises
    ------
    InvalidSpec
        The spec cannot be used; the reason and message are for the user. Where the revision is recorded, this
        is so only for what the spec itself says, whatever the configuration lacks.
    """
    values = shape(spec)
    kept = recorded(spec, values, records)
    try:
        resolved = resolve()
    except InvalidSpec as error:
        if kept is None:
            raise
        unavailable = Blocked(error.reason, error.message)
        return _desired(spec, model, configuration, kept.key, kept.facts(), kept.template(), unavailable)
    key = kept.key if kept else key_of(values, fronted=resolved.front is not None)
    kept = next((one for one in records if one.key == key), None)
    if model.scheme == OCI.name:
        resolved = replace(resolved, image_volume=mounts_model(resolved, kept, nodes))
    facts = kept.facts() if kept else facts_of(resolved)
    return _desired(spec, model, configuration, key, facts, pod_template(owner, resolved, key))


def _desired(
    spec: ServedSpec,
    model: ModelSource,
    configuration: Configuration,
    key: str,
    facts: Facts,
    template: dict[str, Any],
    unavailable: Blocked | None = None,
) -> Desired:
    return Desired(
        spec=spec,
        model=model,
        facts=facts,
        workload=Workload(
            revision=key,
            wanted=spec.wanted_replicas,
            rollout=spec.rollout,
            # What an administrator says of nodes to come is read again, whatever was recorded.
            placement=replace(
                facts.placement,
                scalable=is_scalable(_profile(spec, facts), configuration),
                when_unavailable=spec.accelerator.when_unavailable if spec.accelerator else AUTO,
            ),
        ),
        template=template,
        unavailable=unavailable,
    )


def _profile(spec: ServedSpec, facts: Facts) -> str:
    """Name of the accelerator profile; of one that the operator chose, as the facts have it."""
    return spec.accelerator.profile if spec.accelerator else facts.placement.accelerator


def recorded(
    spec: ServedSpec, values: dict[str, Any], records: Sequence[RevisionView]
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
