"""The plan and the judgement of a Toy. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from serval_operator.api.conditions import Blocked, Condition, find
from serval_operator.api.judgement import Judgement
from serval_operator.api.naming import Key
from serval_operator.api.parse import parse_block
from serval_operator.api.placement import Placement
from serval_operator.api.resources import DEPLOYMENTS
from serval_operator.api.rivals import Claim
from serval_operator.api.snapshots import OwnerView
from serval_operator.api.unstructured import mapping, mappings
from serval_operator.config import Configuration
from serval_operator.constants import ACCELERATOR_AVAILABLE, MODEL_DEPLOYMENT, READY, RECONCILING, STALLED
from serval_operator.errors import InvalidSpec
from serval_operator.jobs.plan import JobsDecision, plan_jobs
from serval_operator.pods.observation import Observed
from serval_operator.reasons import DONE, PROGRESSING, SERVING
from serval_operator.reconcile.plan import Outcome, Plan, Situation
from serval_operator.workload.accelerator_status import (
    accelerator_condition,
    accelerator_status,
    volatile_fields,
)
from serval_operator.workload.rollout_decider import Decision, decide
from serval_operator.workload.turn_taking import kept_records
from serval_operator.workload.workload import Workload
from support.toy.manifests import play_job, watchers
from support.toy.spec import ToySpec

ALLOWED = "Allowed"
PLAYED = "Played"
CONDITIONS = (READY, ALLOWED, PLAYED, ACCELERATOR_AVAILABLE, RECONCILING, STALLED)
WAITS = "WaitsForModel"


def references(owner: OwnerView) -> Iterable[Key]:
    """The ModelDeployment that must be ready first."""
    after = owner.spec.get("after")
    return [Key(MODEL_DEPLOYMENT, owner.namespace, after)] if isinstance(after, str) and after else []


def finished(toy: Mapping[str, Any]) -> bool:
    """Whether a Toy is played and nobody is to watch: its spec was judged, and nothing else can happen."""
    spec, status = mapping(toy, "spec"), mapping(toy, "status")
    judged = status.get("observedGeneration") == mapping(toy, "metadata").get("generation")
    ready = find(mappings(status, "conditions"), READY)
    return judged and not spec.get("watchers") and ready.get("status") == "True"


def plan(situation: Situation) -> Plan:
    """Plan one Toy."""
    observed = situation.observed
    owner = observed.model
    try:
        spec = parse_block(ToySpec, "spec", owner.spec)
    except InvalidSpec as error:
        return Plan(partial(_judge_unusable, Blocked(error.reason, error.message)))
    waits = _waits(situation)
    turn = _turn(situation, spec)
    decision = plan_jobs(observed, [play_job(spec, suspend=spec.suspend or bool(waits))], situation.pages)
    apply = None
    if decision.complete and spec.watchers:
        score = decision.records[0].result.get("score")
        apply = [(DEPLOYMENTS, watchers(owner, spec, score, turn.rollout.replicas))]
    return Plan(
        partial(_judge, spec, decision, turn, waits),
        apply=apply,
        creations=decision.creations,
        patches=decision.patches,
        deletions=decision.deletions,
        polls=decision.to_poll,
    )


def claim(owner: OwnerView, _: Configuration) -> Claim | None:
    """What a Toy asks of the queue for devices: as long as it is not played, none."""
    try:
        spec = parse_block(ToySpec, "spec", owner.spec)
    except InvalidSpec:
        return None
    if spec.accelerator is None:
        return None
    played = any(job.get("phase") == "Succeeded" for job in mappings(owner.status, "jobs"))
    return Claim(
        placement=_placement(spec),
        wanted=(spec.watchers or 0) if played else 0,
        priority_class=spec.scheduling.priority_class_name,
        when_busy=spec.accelerator.when_busy,
    )


def _placement(spec: ToySpec) -> Placement:
    asked = spec.accelerator
    return Placement(asked.resource_name, asked.count, asked.resource_name) if asked else Placement()


def _turn(situation: Situation, spec: ToySpec) -> Decision:
    """How many pods may watch."""
    workload = Workload(revision="", wanted=spec.watchers or 0, placement=_placement(spec))
    return decide(situation.observed, workload, situation.answers)


def _waits(situation: Situation) -> str:
    """Which ModelDeployment it waits for; empty for none."""
    for key, model in situation.referenced.items():
        ready = find(mappings(model.status, "conditions"), READY) if model else {}
        if ready.get("status") != "True":
            return f"{key} is not ready" if model else f"there is no {key}"
    return ""


def _judge_unusable(unusable: Blocked, observed: Observed, _: Outcome) -> Judgement:
    ready = Condition(READY, "False", unusable.reason, unusable.message)
    kept = {"jobs": observed.model.status["jobs"]} if "jobs" in observed.model.status else {}
    kept |= kept_records(observed.model)
    return Judgement(kept, (ready, Condition(STALLED, "True", unusable.reason, unusable.message)))


def _judge(
    spec: ToySpec, decision: JobsDecision, turn: Decision, waits: str, observed: Observed, outcome: Outcome
) -> Judgement:
    watching = sum(pod.ready for pod in observed.living())
    allowed = Condition(ALLOWED, "False", WAITS, waits) if waits else Condition(ALLOWED, "True", DONE, "")
    played = _played(decision)
    wanted, placement = spec.watchers or 0, _placement(spec)
    devices = accelerator_condition(observed, placement, turn.verdict, revision="", wanted=wanted)
    ready = _ready(spec, outcome.blocked or turn.rollout.blocked, waits, played, watching)
    if ready.reason == PROGRESSING and played.status == "True" and devices and devices.status == "False":
        ready = Condition(READY, "False", devices.reason, devices.message)
    kstatus = []
    if ready.status != "True":
        kind = STALLED if decision.failed else RECONCILING
        kstatus.append(Condition(kind, "True", ready.reason, ready.message))
    status = {"watching": watching, "jobs": [record.as_json() for record in decision.records]}
    accelerator = accelerator_status(placement, turn.verdict, lacking=turn.lacking)
    status |= {**turn.records, **({"accelerator": accelerator} if accelerator else {})}
    conditions = (ready, allowed, played, *([devices] if devices else []), *kstatus)
    pauses = [pause for pause in (decision.again, turn.again) if pause is not None]
    return Judgement(status, conditions, volatile=volatile_fields(status), again=min(pauses, default=None))


def _played(decision: JobsDecision) -> Condition:
    if decision.complete:
        return Condition(PLAYED, "True", DONE, f"score {decision.records[0].result.get('score')}")
    verdict = decision.verdict or Blocked(PROGRESSING, "the Job is being created")
    return Condition(PLAYED, "False", verdict.reason, verdict.message)


def _ready(spec: ToySpec, blocked: Blocked | None, waits: str, played: Condition, watching: int) -> Condition:
    if blocked:
        return Condition(READY, "False", blocked.reason, blocked.message)
    if waits and played.status != "True":
        return Condition(READY, "False", WAITS, waits)
    if played.status != "True":
        return Condition(READY, "False", played.reason, played.message)
    if watching < (spec.watchers or 0):
        return Condition(READY, "False", PROGRESSING, f"{watching} of {spec.watchers} pods watch")
    return Condition(READY, "True", SERVING, played.message)
