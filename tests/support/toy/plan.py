"""The plan and the judgement of a Toy. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from serval_operator.api.conditions import Blocked, Condition, find
from serval_operator.api.judgement import Judgement
from serval_operator.api.naming import Key
from serval_operator.api.parse import parse_block
from serval_operator.api.resources import DEPLOYMENTS
from serval_operator.api.snapshots import OwnerView
from serval_operator.api.unstructured import mapping, mappings
from serval_operator.constants import MODEL_DEPLOYMENT, READY, RECONCILING, STALLED
from serval_operator.errors import InvalidSpec
from serval_operator.jobs.plan import JobsDecision, plan_jobs
from serval_operator.pods.observation import Observed
from serval_operator.reasons import DONE, PROGRESSING, SERVING
from serval_operator.reconcile.plan import Outcome, Plan, Situation
from support.toy.manifests import play_job, watchers
from support.toy.spec import ToySpec

ALLOWED = "Allowed"
PLAYED = "Played"
CONDITIONS = (READY, ALLOWED, PLAYED, RECONCILING, STALLED)
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
    decision = plan_jobs(observed, [play_job(spec, suspend=spec.suspend or bool(waits))], situation.pages)
    apply = None
    if decision.complete and spec.watchers:
        apply = [(DEPLOYMENTS, watchers(owner, spec, decision.records[0].result.get("score")))]
    return Plan(
        partial(_judge, spec, decision, waits),
        apply=apply,
        creations=decision.creations,
        patches=decision.patches,
        deletions=decision.deletions,
        polls=decision.to_poll,
    )


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
    return Judgement(kept, (ready, Condition(STALLED, "True", unusable.reason, unusable.message)))


def _judge(
    spec: ToySpec, decision: JobsDecision, waits: str, observed: Observed, outcome: Outcome
) -> Judgement:
    watching = sum(pod.ready for pod in observed.living())
    allowed = Condition(ALLOWED, "False", WAITS, waits) if waits else Condition(ALLOWED, "True", DONE, "")
    played = _played(decision)
    ready = _ready(spec, outcome.blocked, waits, played, watching)
    kstatus = []
    if ready.status != "True":
        kind = STALLED if decision.failed else RECONCILING
        kstatus.append(Condition(kind, "True", ready.reason, ready.message))
    status = {"watching": watching, "jobs": [record.as_json() for record in decision.records]}
    return Judgement(status, (ready, allowed, played, *kstatus), again=decision.again)


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
