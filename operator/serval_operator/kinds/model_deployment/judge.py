"""The judgement of a ModelDeployment: readiness and status out of one observation. Pure."""

from __future__ import annotations

from serval_operator.api.blocks.source import ModelSource
from serval_operator.api.capabilities import RAW_SCORE
from serval_operator.api.conditions import Blocked
from serval_operator.api.facts import Facts
from serval_operator.api.judgement import Judgement
from serval_operator.api.snapshots import OwnerView
from serval_operator.kinds.model_deployment.version_pin import compare_replicas, is_pinned
from serval_operator.pods.observation import Observed
from serval_operator.reconcile.plan import Outcome
from serval_operator.workload.desired import Desired
from serval_operator.workload.judge import judge_served
from serval_operator.workload.rollout_decider import Decision
from serval_operator.workload.status import addresses, service_host


def judge(
    desired: Desired, decision: Decision, failure: Blocked | None, observed: Observed, outcome: Outcome
) -> Judgement:
    """Judge a ModelDeployment after its plan was carried out.

    Parameters
    ----------
    failure:
        Why the newest revision has failed for good, if the plan wrote that down.
    """
    newest = decision.rollout.revision == desired.revision
    return judge_served(
        desired,
        decision,
        failure,
        observed,
        outcome,
        endpoints=lambda facts: endpoints(observed.model, desired.model, facts),
        skewed=compare_replicas(desired, observed).skewed,
        pinned=newest and is_pinned(observed.model, desired, outcome),
    )


def endpoints(owner: OwnerView, model: ModelSource, facts: Facts) -> dict[str, str]:
    """`status.endpoints`, for pods of which these facts are known."""
    found = addresses(owner, model)
    if RAW_SCORE.name in facts.capabilities:
        found["scoring"] = f"http://{service_host(owner)}/score"
    return found
