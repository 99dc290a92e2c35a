"""The reconciler of ModelDeployments: gather, decide, act, status, events. It reads as that story.

Nothing here remembers what must not be forgotten: any run may be the first after a restart, and two runs
after another do no more than one.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

from serval_operator.api.conditions import Blocked, Condition
from serval_operator.api.naming import Key
from serval_operator.api.observation import Observed
from serval_operator.api.resources import AUTOSCALERS, DEPLOYMENTS, DISRUPTION_BUDGETS, SERVICES
from serval_operator.api.snapshots import OwnerView, PodView
from serval_operator.config import Configuration
from serval_operator.constants import (
    ACCELERATOR_IN_USE,
)
from serval_operator.errors import InvalidSpec
from serval_operator.kinds.model_deployment.desired import (
    Desired,
    children,
    compute_desired,
    halted,
    outdated,
    reporting,
    running,
    template_of,
)
from serval_operator.kinds.model_deployment.revision_keeper import Upkeep
from serval_operator.kinds.model_deployment.status import (
    Status,
    build_status,
)
from serval_operator.pods.device_prober import Devices
from serval_operator.pods.pod_state import judge
from serval_operator.pods.start_deadline import overdue
from serval_operator.pods.startup_latency import phases
from serval_operator.reasons import CAPACITY_REASONS, UNSCHEDULABLE
from serval_operator.runtime.applier import Applier, Memory, all_of
from serval_operator.runtime.kube_api import KubeApi
from serval_operator.runtime.publisher import Judgement, Publisher
from serval_operator.workload.accelerator_status import accelerator_condition, accelerator_status
from serval_operator.workload.gatherer import Gatherer
from serval_operator.workload.readiness import Readiness, assess
from serval_operator.workload.rollout import failed_now
from serval_operator.workload.rollout_decider import Decider, Decision, is_in_place

OPTIONAL = (AUTOSCALERS, DISRUPTION_BUDGETS)
"""Kinds of children that a spec may ask for and take back."""
OWNS = (DEPLOYMENTS, SERVICES, *OPTIONAL)
"""Kinds of children that are applied."""
RETRY_REFUSED = 10.0
"""Seconds until children that the API server refused, or that a stranger blocks, are tried again."""
_log = logging.getLogger(__name__)


class Meter(Protocol):
    """Takes the figures that a reconcile produces."""

    def conditions(self, key: Key, conditions: Sequence[Condition]) -> None:
        """The conditions of an object now; none when it is gone."""

    def pod_ready(self, kind: str, seconds_by_phase: dict[str, float]) -> None:
        """A pod of an object of a kind became ready."""


class ModelReconciler:
    """Brings one ModelDeployment at a time to what its spec says.

    Attributes
    ----------
    waiting:
        Keys that wait for a place on a node: they have to look again when nodes change.
    """

    def __init__(
        self,
        api: KubeApi,
        gatherer: Gatherer,
        decider: Decider,
        memory: Memory,
        configuration: Configuration,
        publisher: Publisher,
        meter: Meter,
        devices: Devices,
    ) -> None:
        self._api = api
        self._gatherer = gatherer
        self._decider = decider
        self._memory = memory
        self._configuration = configuration
        self._publisher = publisher
        self._meter = meter
        self._devices = devices
        self._applier = Applier(api, memory)
        self._upkeep = Upkeep(api, memory)
        self._ready_pods: dict[Key, set[str]] = {}
        self.waiting: set[Key] = set()

    async def reconcile(self, model: OwnerView) -> float | None:
        """Reconcile one ModelDeployment; returns the seconds after which to come again, or None.

        Raises
        ------
        KubeError
            Something transient; the queue tries again with back-off.
        """
        key = model.key
        warnings, again = await self._gatherer.warnings(model)
        observed = self._gatherer.observe(model, warnings)
        pauses = [again]
        try:
            desired = compute_desired(model, self._configuration, observed.revisions, self._gatherer.nodes())
        except InvalidSpec as error:
            readiness = assess(
                observed, wanted=0, revision="", suspended=False, blocked=Blocked(error.reason, error.message)
            )
            status = build_status(observed, readiness, None, "")
            await self._halt(observed)
        else:
            decision = await self._decider.decide(observed, desired.workload, crowd=len(self.waiting))
            blocked, pause = await self._act(observed, desired, decision)
            observed = self._gatherer.observe(model, warnings)
            readiness, status = self._judge(observed, desired, decision, blocked)
            pauses += [
                pause,
                decision.again,
                _deadline(observed, desired),
                await self._give_up(observed, desired),
            ]
        self._measure(key, observed, readiness)
        judgement = Judgement(status, readiness.conditions, told=(ACCELERATOR_IN_USE,))
        pauses.append(await self._publisher.publish(model, judgement))
        pauses.append(self._gatherer.patience(key))
        return min((pause for pause in pauses if pause is not None), default=None)

    async def _act(
        self, observed: Observed, desired: Desired, decision: Decision
    ) -> tuple[Blocked | None, float | None]:
        """Make the children what they should be; what blocks, and when to try again."""
        model, rollout = observed.model, decision.rollout
        barred = await self._upkeep.barred(model, desired, observed)
        if barred:
            await self._halt(observed)
            return barred, RETRY_REFUSED
        kept = observed.revision(rollout.revision)
        wanted = children(
            model,
            desired,
            template=template_of(desired, rollout.revision, kept),
            revision=rollout.revision,
            replicas=rollout.replicas,
            strategy=rollout.strategy,
        )
        # Side by side: neither needs the other, and a rollout should not wait for its own record.
        blocked = await all_of(
            [
                self._applier.apply(model, wanted, OPTIONAL, observed),
                self._upkeep.record(model, desired, observed),
            ]
        )
        in_use = {desired.revision, rollout.revision, str(model.status.get("servingRevision") or "")}
        in_use |= {pod.revision for pod in observed.pods}
        if observed.deployment:
            in_use.add(observed.deployment.revision)
        await self._upkeep.pin(model, desired, observed)
        await self._upkeep.tidy(observed, in_use=in_use, trim=decision.damping.trim)
        return (blocked, RETRY_REFUSED) if blocked else (rollout.blocked, None)

    async def _halt(self, observed: Observed) -> None:
        """Stop what runs where a spec asks for that, though nothing else of it can be done."""
        model, held = observed.model, observed.deployment
        asked = model.spec.get("suspend") is True or model.spec.get("replicas") == 0
        kept = observed.revision(held.revision) if held else None
        if asked and held and kept:
            await self._applier.apply(model, halted(model, held, kept), OPTIONAL, observed)

    def _judge(
        self, observed: Observed, desired: Desired, decision: Decision, blocked: Blocked | None
    ) -> tuple[Readiness, Status]:
        """What there is to say now."""
        late, _ = overdue(observed, desired.revision, desired.workload.deadline_seconds)
        kept = observed.revision(desired.revision)
        carried = decision.rollout.revision
        readiness = assess(
            observed,
            wanted=desired.wanted,
            revision=desired.revision,
            suspended=desired.resolved.spec.suspend,
            blocked=blocked,
            in_place=is_in_place(decision),
            accelerator=accelerator_condition(
                observed,
                desired.placement,
                decision.verdict,
                revision=desired.revision,
                wanted=desired.wanted,
            ),
            deadline=desired.workload.deadline_seconds if late else None,
            credentials=desired.credentials,
            outdated=outdated(desired, kept),
            in_use=self._devices.condition(observed.model, reporting(desired, observed), desired.placement),
        )
        status = build_status(
            observed,
            readiness,
            desired.resolved,
            desired.revision,
            carried=carried,
            facts=running(desired, observed.revision(carried)),
            strategy=decision.rollout.strategy,
            accelerator=accelerator_status(desired.placement, decision.verdict, lacking=decision.lacking),
            pinned=self._upkeep.is_pinned(observed.model, desired),
        )
        return readiness, status

    async def _give_up(self, observed: Observed, desired: Desired) -> float | None:
        """Write down a revision that failed for good; 0 where there is something to go back to now."""
        kept = observed.revision(desired.revision)
        if kept is None or kept.failed_reason:
            return None
        verdicts = [
            judge(pod, observed.warnings.get(pod.uid, ())) for pod in observed.newest(desired.revision)
        ]
        failure = failed_now(observed, desired.workload, verdicts)
        if failure is None:
            return None
        # A record that is gone is made anew once the watch has told so.
        return 0.0 if await self._upkeep.give_up(kept, failure) else None

    def _measure(self, key: Key, observed: Observed, readiness: Readiness) -> None:
        reason = readiness.ready.reason
        self._meter.conditions(key, readiness.conditions)
        if reason in CAPACITY_REASONS or reason == UNSCHEDULABLE:
            self.waiting.add(key)
        else:
            self.waiting.discard(key)
        living = observed.living()
        known = self._ready_pods.get(key)
        for pod in _new([pod for pod in living if pod.ready], known):
            self._meter.pod_ready(key.kind, phases(pod))
        # A pod that was ready once stays known, so that one that wavers is not counted again.
        self._ready_pods[key] = {pod.uid for pod in living if pod.ready or pod.uid in (known or ())}

    def forget(self, key: Key) -> None:
        """Forget a ModelDeployment that is gone."""
        self._gatherer.forget(key)
        self._applier.forget(key)
        self._upkeep.forget(key)
        self._devices.forget(key)
        self._publisher.forget(key)
        self._ready_pods.pop(key, None)
        self.waiting.discard(key)
        self._meter.conditions(key, ())


def _deadline(observed: Observed, desired: Desired) -> float | None:
    """Seconds until a pod passes its deadline, if one may."""
    _, due = overdue(observed, desired.revision, desired.workload.deadline_seconds)
    return due


def _new(ready: Sequence[PodView], known: set[str] | None) -> list[PodView]:
    """Pods that became ready since the last look. At the first look, after a start, none counts as new."""
    if known is None:
        return []
    return [pod for pod in ready if pod.uid not in known]
