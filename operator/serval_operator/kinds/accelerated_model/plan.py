"""The plan of an AcceleratedModel: first its artifact, then the pods that serve it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from serval_contract.ports import PORT_EDGE, PORT_SCORING
from serval_operator.api.blocks.names import AUTO
from serval_operator.api.blocks.rollout import IN_PLACE
from serval_operator.api.blocks.source import ConfigMapKey, ModelSource
from serval_operator.api.conditions import Blocked, problem
from serval_operator.api.resources import SERVICE_ACCOUNTS, SERVICES, Children
from serval_operator.api.snapshots import OwnerView, RevisionView
from serval_operator.errors import InvalidSpec, KubeError
from serval_operator.jobs.plan import JobsDecision, plan_jobs
from serval_operator.kinds.accelerated_model.artifact import (
    Made,
    kept_artifact,
    made_artifact,
    model_name,
)
from serval_operator.kinds.accelerated_model.conversion import (
    Conversion,
    conversion,
    converted,
    held_up,
    progress,
    succeeded,
)
from serval_operator.kinds.accelerated_model.device import resolve
from serval_operator.kinds.accelerated_model.judge import Story, judge, judge_refused, judge_waiting
from serval_operator.kinds.accelerated_model.manifests.job import CA_KEY
from serval_operator.kinds.accelerated_model.spec import AcceleratedSpec, parse_spec
from serval_operator.pods.observation import Observed
from serval_operator.reasons import JOB_RESULT_LOST
from serval_operator.reconcile.plan import Plan, Situation
from serval_operator.workload.desired import Desired, compute_desired, recorded
from serval_operator.workload.device_care import take_care
from serval_operator.workload.effective_spec import EffectiveSpec
from serval_operator.workload.manifests.service import GRPC, headless_service, service
from serval_operator.workload.plan import Manner, plan_served, plan_unusable
from serval_operator.workload.resolve import refused_priority
from serval_operator.workload.revision_key import key_of, shape
from serval_operator.workload.service_account_policy import judge_service_account
from serval_operator.workload.workload import Workload

PORTS = (("scoring", PORT_SCORING, GRPC), ("edge", PORT_EDGE, GRPC))
"""Ports of the Service beside those that every model has: Azure ML's clients call gRPC there."""


@dataclass(frozen=True, slots=True)
class _Step:
    """What is done about the artifact of the newest spec.

    Parameters
    ----------
    made:
        The artifact; None until it is there.
    blocked:
        Why the Job is not created.
    """

    story: Story
    made: Made | None = None
    decision: JobsDecision | None = None
    blocked: Blocked | None = None


def plan(situation: Situation) -> Plan:
    """Plan one AcceleratedModel.

    Raises
    ------
    Unanswered
        The capacity of the cluster or a ServiceAccount has to be known first.
    """
    observed = situation.observed
    owner = observed.model
    try:
        spec = parse_spec(owner.name, owner.spec)
        kept = recorded(spec, shape(spec), observed.revisions)
        if kept is None:
            # What no device could run is not worth a conversion.
            _resolved(situation, spec, Made(""))
        step = _artifact(situation, spec, kept)
        desired = (
            _desired(situation, spec, step.made) if step.made is not None else _meanwhile(observed, spec)
        )
    except InvalidSpec as error:
        refused = Blocked(error.reason, error.message)
        return plan_unusable(situation, partial(judge_refused, refused))
    if desired is None:
        return _with_jobs(Plan(partial(judge_waiting, spec, step.story)), step)
    story = replace(step.story, revision=desired.revision) if step.made else step.story
    care = take_care(observed, desired.workload, situation.devices, situation.answers)
    manner = Manner(
        judge=partial(judge, spec, desired, story, care),
        beside=lambda _: _services(owner),
        deletions=care.deletions,
    )
    served = plan_served(replace(situation, observed=care.seen(observed)), desired, manner)
    return _with_jobs(replace(served, exclusive=desired.model.name), step)


def _artifact(situation: Situation, spec: AcceleratedSpec, kept: RevisionView | None) -> _Step:
    """Find the artifact, or plan the Job that makes it.

    A revision that is recorded keeps its artifact, whatever the converter is today.
    """
    observed = situation.observed
    key = kept.key if kept else key_of(shape(spec))
    made = kept_artifact(kept.facts()) if kept else None
    if made is None and spec.artifact is not None:
        made = Made(spec.artifact.uri)
    if made is not None:
        return _made_before(observed, spec, key, made)
    wanted = conversion(observed.model, spec, situation.configuration)
    decision = plan_jobs(observed, [wanted.plan], situation.pages)
    if decision.complete:
        made = made_artifact(decision.records[0].result, wanted.store)
    return _step(situation, spec, key, wanted, decision, made)


def _step(
    situation: Situation,
    spec: AcceleratedSpec,
    key: str,
    wanted: Conversion,
    decision: JobsDecision,
    made: Made | None,
) -> _Step:
    waits = None
    if made is None and decision.complete:
        waits = Blocked(JOB_RESULT_LOST, "the Job is complete, but its result names no artifact", final=True)
    elif made is None:
        waits = held_up(spec, wanted, decision)
    barred = _barred(situation, spec) if decision.creations else None
    waits = barred or waits
    story = Story(
        revision=key,
        made=made,
        condition=converted(spec, decision, made, waits),
        # While it is suspended, nothing is missing.
        held_up=None if spec.suspend and not decision.failed and not barred else waits,
        decision=decision,
        jobs=[one.as_json() for one in decision.records],
        progress=progress(decision, situation.pages),
    )
    return _Step(story, made, decision, barred)


def _made_before(observed: Observed, spec: AcceleratedSpec, key: str, made: Made) -> _Step:
    """There is an artifact. Its Job stays for its logs; one of other inputs is not wanted any more."""
    done = succeeded(observed.model.status)
    decision = None
    jobs: Sequence[Mapping[str, Any]] = [one.as_json() for one in done]
    inputs = {one.inputs for one in done}
    if spec.artifact is not None or any(one.inputs not in inputs for one in observed.jobs):
        decision = plan_jobs(observed, [])
        jobs = ()
    story = Story(
        revision=key,
        made=made,
        condition=converted(spec, None, made, None),
        decision=decision,
        jobs=jobs,
    )
    return _Step(story, made, decision)


def _barred(situation: Situation, spec: AcceleratedSpec) -> Blocked | None:
    """Why the Job may not have the PriorityClass or the ServiceAccount of the spec; None where it may."""
    refused = refused_priority(spec.scheduling.priority_class_name, situation.configuration)
    credentials = spec.model.credentials if spec.model else None
    name = credentials.service_account_name if credentials else ""
    if refused or not name:
        return refused
    account = situation.answers.account(name)
    if isinstance(account, KubeError):
        return problem(f"{SERVICE_ACCOUNTS.kind}/{name}", account)
    return judge_service_account(name, account)


def _desired(situation: Situation, spec: AcceleratedSpec, made: Made) -> Desired:
    """What the newest spec comes to, once its artifact is there."""
    observed = situation.observed
    desired = compute_desired(
        observed.model,
        spec,
        _source(situation, spec, made),
        partial(_resolved, situation, spec, made),
        situation.configuration,
        records=observed.revisions,
        nodes=situation.nodes,
    )
    return replace(desired, workload=_in_place(desired.workload))


def _resolved(situation: Situation, spec: AcceleratedSpec, made: Made) -> EffectiveSpec:
    """What the spec names, looked up."""
    return resolve(spec, _source(situation, spec, made), made, situation.configuration)


def _source(situation: Situation, spec: AcceleratedSpec, made: Made) -> ModelSource:
    """The artifact as what the pods fetch and serve."""
    settings = situation.configuration.conversion
    store = settings.store if settings else None
    if spec.artifact is not None:
        secret = spec.artifact.secret_ref.name if spec.artifact.secret_ref else ""
        authorities = spec.artifact.ca_config_map_ref
    else:
        secret = store.pull_secret if store else ""
        name = store.ca_config_map if store else ""
        authorities = ConfigMapKey(name=name, key=CA_KEY) if name else None
    name = model_name(situation.observed.model.name, spec)
    return made.source(name, secret=secret, authorities=authorities)


def _meanwhile(observed: Observed, spec: AcceleratedSpec) -> Desired | None:
    """What runs until the newest spec is converted: the revision that the Deployment carries; None for none.

    Its number of pods follows the newest spec.
    """
    held = observed.deployment
    kept = observed.revision(held.revision) if held else None
    if kept is None:
        return None
    facts = kept.facts()
    made = kept_artifact(facts) or Made("")
    return Desired(
        spec=spec,
        model=made.source(model_name(observed.model.name, spec)),
        workload=_in_place(
            Workload(
                revision=kept.key,
                wanted=spec.wanted_replicas,
                rollout=spec.rollout,
                placement=facts.placement,
            )
        ),
        template=kept.template(),
        facts=facts,
    )


def _in_place(workload: Workload) -> Workload:
    """A device holds one model: a new pod takes the place of an old one, unless the spec says otherwise."""
    if workload.rollout.strategy != AUTO:
        return workload
    return replace(workload, rollout=replace(workload.rollout, strategy=IN_PLACE))


def _services(owner: OwnerView) -> Children:
    return ((SERVICES, service(owner, PORTS)), (SERVICES, headless_service(owner)))


def _with_jobs(served: Plan, step: _Step) -> Plan:
    """A plan with what is to be done about the Job beside."""
    decision = step.decision
    if decision is None:
        return served
    return replace(
        served,
        creations=(*served.creations, *(() if step.blocked else decision.creations)),
        patches=(*served.patches, *decision.patches),
        deletions=(*served.deletions, *decision.deletions),
        blocked=served.blocked or step.blocked,
        polls=decision.to_poll,
    )
