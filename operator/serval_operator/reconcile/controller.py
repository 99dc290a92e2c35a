"""The reconcile of one kind: gather, plan, apply, judge, publish. It reads as that story.

Nothing here remembers what must not be forgotten: any run may be the first after a restart, and two runs
after another do no more than one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from serval_operator.api.conditions import Blocked, both, problem
from serval_operator.api.judgement import Judgement
from serval_operator.api.naming import Key
from serval_operator.api.snapshots import OwnerView, PodView
from serval_operator.constants import READY
from serval_operator.conversion_reasons import DEVICE_FAULTS
from serval_operator.jobs.progress_poller import ProgressPoller
from serval_operator.pods.device_prober import Devices
from serval_operator.pods.observation import Observed
from serval_operator.pods.startup_latency import phases
from serval_operator.reasons import CAPACITY_REASONS, UNSCHEDULABLE
from serval_operator.reconcile.actor import Actor
from serval_operator.reconcile.context import Context
from serval_operator.reconcile.gatherer import Gatherer
from serval_operator.reconcile.kind import Kind
from serval_operator.reconcile.plan import Outcome, Plan, Situation
from serval_operator.reconcile.planner import Planner
from serval_operator.runtime.owner_check import OwnerCheck
from serval_operator.runtime.publisher import Publisher

RETRY_REFUSED = 10.0
LONGEST_RETRY = 60.0
"""Bounds, in seconds, of the pause until something that was refused, or that a stranger blocks, is tried
again. It doubles with each equal refusal in a row."""
TOLD_FROM = 2
"""A failure that may pass is told from so many in a row on."""


class KindController:
    """Brings one object of a kind at a time to what its spec says.

    Attributes
    ----------
    waiting:
        Keys that wait for a place on a node: they have to look again when nodes change.
    """

    def __init__(self, kind: Kind, context: Context) -> None:
        self._kind = kind
        self._context = context
        self._gatherer = Gatherer(context.events, context.cache, kind.applies, context.now)
        self._planner = Planner(kind.plan, context.api, context.supplier, context.contest)
        self._owners = OwnerCheck(context.api, kind.resource, context.cache)
        self._actor = Actor(kind, context.api, context.cache, context.clock)
        self._devices = Devices(context.prober, context.wake, context.sleep)
        self._progress = ProgressPoller(context.prober, context.wake, context.sleep, context.clock)
        self._publisher = Publisher(
            context.api, kind.resource, context.cache, context.recorder, context.clock
        )
        self._failures: dict[Key, int] = {}
        self._refusals: dict[Key, tuple[Blocked, int]] = {}
        self._ready_pods: dict[Key, frozenset[str]] = {}
        self.waiting: set[Key] = set()

    async def reconcile(self, owner: OwnerView) -> float | None:
        """Reconcile one object; returns the seconds after which to come again, or None.

        A request that fails keeps neither the others nor the status away.

        Raises
        ------
        KubeError
            A request failed in a way that may pass; the queue tries again with back-off.
        """
        key = owner.key
        warnings, again = await self._gatherer.warnings(owner)
        observed = self._gatherer.observe(owner, warnings)
        plan = await self._planner.plan(self._situation(observed))
        if not await self._owners.lives(owner, lost_children=_lost_children(plan, observed)):
            return None
        outcome = self._told(key, await self._actor.act(plan, observed))
        outcome = replace(outcome, devices=self._devices.answers(key, plan.asks, plan.exclusive))
        self._progress.poll(key, plan.polls)
        if outcome.sent:
            self._context.contest.touch(key)
            observed = self._gatherer.observe(owner, warnings)
        judgement = plan.judge(observed, outcome)
        self._measure(key, observed, judgement)
        due = await self._publish(owner, judgement, observed.now)
        if outcome.failed:
            raise outcome.failed.error
        pauses = [
            again,
            self._retry(key, outcome),
            LONGEST_RETRY if outcome.left else None,
            judgement.again,
            due,
            self._gatherer.patience(key),
        ]
        return min((pause for pause in pauses if pause is not None), default=None)

    def forget(self, key: Key) -> None:
        """Forget an object that is gone."""
        self._gatherer.forget(key)
        self._actor.forget(key)
        self._devices.forget(key)
        self._progress.forget(key)
        self._publisher.forget(key)
        self._context.references.update(key, ())
        self._context.contest.touch(key)
        self._context.contest.catch_up()
        self._failures.pop(key, None)
        self._refusals.pop(key, None)
        self._ready_pods.pop(key, None)
        self.waiting.discard(key)
        self._context.meter.conditions(key, ())

    def _told(self, key: Key, outcome: Outcome) -> Outcome:
        """The outcome; from the second failure in a row on, with the failure as what blocks.

        A single failure, such as a conflict with another writer, passes with the next attempt.
        """
        if outcome.failed is None:
            self._failures.pop(key, None)
            return outcome
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        if failures < TOLD_FROM:
            return outcome
        failed = problem(outcome.failed.slot, outcome.failed.error)
        return replace(outcome, blocked=both(outcome.blocked, failed))

    def _retry(self, key: Key, outcome: Outcome) -> float | None:
        """Seconds until a plan that is blocked is tried again; None where nothing blocks."""
        if outcome.blocked is None:
            self._refusals.pop(key, None)
            return None
        before, refusals = self._refusals.get(key, (None, 0))
        # Another refusal shows that someone works on it.
        refusals = refusals + 1 if outcome.blocked == before else 1
        self._refusals[key] = (outcome.blocked, refusals)
        return min(RETRY_REFUSED * 2.0 ** min(refusals - 1, 10), LONGEST_RETRY)

    def _situation(self, observed: Observed) -> Situation:
        context, owner = self._context, observed.model
        context.contest.touch(owner.key)
        named = context.references.update(owner.key, self._kind.references(owner))
        return Situation(
            observed=observed,
            configuration=context.configuration,
            nodes=context.cache.nodes(),
            referenced={key: context.cache.owner(key) for key in named},
            pages=self._progress.pages(owner.key),
            devices=self._devices.known(owner.key),
            crowd=len(self.waiting),
            hide_foreign=context.hide_foreign,
        )

    async def _publish(self, owner: OwnerView, judgement: Judgement, now: datetime) -> float | None:
        """Write the status if it differs; what names this object has to look at it again then."""
        status = judgement.stored(owner, self._kind.conditions, now)
        published = await self._publisher.publish(owner, judgement, status)
        if published.written:
            self._context.contest.touch(owner.key)
            self._context.contest.catch_up()
            for referrer in self._context.references.referrers(owner.key):
                self._context.wake(referrer)
        return published.again

    def _measure(self, key: Key, observed: Observed, judgement: Judgement) -> None:
        self._context.meter.conditions(key, judgement.conditions)
        ready = judgement.condition(READY)
        if ready and ready.reason in CAPACITY_REASONS | DEVICE_FAULTS | {UNSCHEDULABLE}:
            self.waiting.add(key)
        else:
            self.waiting.discard(key)
        living = observed.living()
        known = self._ready_pods.get(key)
        for pod in _new([pod for pod in living if pod.ready], known):
            self._context.meter.pod_ready(key.kind, phases(pod))
        # A pod that was ready once stays known, so that one that wavers is not counted again.
        self._ready_pods[key] = frozenset(pod.uid for pod in living if pod.ready or pod.uid in (known or ()))


def _lost_children(plan: Plan, observed: Observed) -> bool:
    """Whether a plan creates a child of an object that was reconciled before."""
    judged = int(observed.model.status.get("observedGeneration") or -1) >= 0
    children = plan.apply or ()
    return judged and any(observed.child(one, made["metadata"]["name"]) is None for one, made in children)


def _new(ready: Sequence[PodView], known: frozenset[str] | None) -> list[PodView]:
    """Pods that became ready since the last look. At the first look, after a start, none counts as new."""
    if known is None:
        return []
    return [pod for pod in ready if pod.uid not in known]
