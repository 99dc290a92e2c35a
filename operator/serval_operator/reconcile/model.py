"""The reconciler of ModelDeployments: gather, plan, apply, status, events. It reads as that story.

Nothing here remembers what must not be forgotten: any run may be the first after a restart, and two runs
after another do no more than one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from serval_operator.api.conditions import find
from serval_operator.api.model import parse_spec
from serval_operator.api.naming import Manifest
from serval_operator.api.resolved import IN_PLACE, Resolved
from serval_operator.api.text import scrub
from serval_operator.api.views import ChildView, Key, ModelView, PodView
from serval_operator.builders.deployment import deployment
from serval_operator.builders.service import headless_service, service
from serval_operator.config import Configuration
from serval_operator.constants import (
    API_VERSION,
    CHILD_REFUSED,
    EVENT_RECOVERED,
    LABEL_REVISION,
    MODEL_DEPLOYMENT,
    PROGRESSING,
    READY,
    RESOURCE_CONFLICT,
)
from serval_operator.errors import Conflict, Forbidden, Invalid, InvalidSpec
from serval_operator.kube.protocol import DEPLOYMENTS, MODEL_DEPLOYMENTS, SERVICES, KubeApi, Object, Resource
from serval_operator.planning.children import Action, decide
from serval_operator.planning.observed import Observed
from serval_operator.planning.phases import phases
from serval_operator.planning.readiness import Blocked, Readiness, assess
from serval_operator.planning.resolve import resolve
from serval_operator.planning.status import Status, build_status
from serval_operator.reconcile.gather import Gatherer

RETRY_REFUSED = 10.0
"""Seconds until children that the API server refused, or that a stranger blocks, are tried again."""

_log = logging.getLogger(__name__)


class Memory(Protocol):
    """The cache, as far as a reconcile writes to it: what we wrote is seen at once (read your writes)."""

    def remember(self, resource: Resource, obj: Object) -> ChildView | ModelView | None:
        """Take an object as the API server returned it; gives its view."""


class Recorder(Protocol):
    """Posts Kubernetes Events about a custom resource. Never fails."""

    async def event(self, model: ModelView, kind: str, reason: str, message: str) -> None:
        """Post an event; ``kind`` is ``Normal`` or ``Warning``."""


class Meter(Protocol):
    """Takes the figures that a reconcile produces."""

    def model_state(self, key: Key, reason: str | None) -> None:
        """The `Ready` reason of a ModelDeployment now; None when it is gone."""

    def pod_ready(self, seconds_by_phase: dict[str, float]) -> None:
        """A pod became ready."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What should be: children in the order of their making, or why there are none."""

    resolved: Resolved | None
    revision: str
    children: tuple[tuple[Resource, Manifest], ...]
    blocked: Blocked | None


class ModelReconciler:
    """Brings one ModelDeployment at a time to what its spec says."""

    def __init__(
        self,
        api: KubeApi,
        gatherer: Gatherer,
        memory: Memory,
        configuration: Configuration,
        recorder: Recorder,
        meter: Meter,
    ) -> None:
        self._api = api
        self._gatherer = gatherer
        self._memory = memory
        self._configuration = configuration
        self._recorder = recorder
        self._meter = meter
        self._settled: dict[Key, dict[str, str]] = {}
        self._ready_pods: dict[Key, set[str]] = {}

    async def reconcile(self, key: Key) -> float | None:
        """Reconcile one key; returns the seconds after which to come again, or None.

        Raises
        ------
        KubeError
            Something transient; the queue tries again with back-off.
        """
        model = self._gatherer.model(key)
        if model is None or model.deleting:
            # Owner references let Kubernetes remove the children; writing now would only bring them back.
            self._forget(key)
            return None
        warnings, again = await self._gatherer.warnings(key)
        plan = self._plan(model)
        blocked = plan.blocked or await self._act(model, plan, self._gatherer.observe(model, warnings))
        observed = self._gatherer.observe(model, warnings)
        readiness = _assess(observed, plan, blocked)
        status = build_status(observed, readiness, plan.resolved, plan.revision)
        if await self._write_status(model, status):
            await self._tell(model, readiness)
        self._measure(key, observed, readiness)
        if blocked and plan.blocked is None:
            return RETRY_REFUSED
        return min(
            (pause for pause in (again, self._gatherer.patience(key)) if pause is not None), default=None
        )

    def _plan(self, model: ModelView) -> Plan:
        try:
            resolved = resolve(parse_spec(model.name, model.spec), self._configuration)
        except InvalidSpec as error:
            return Plan(None, "", (), Blocked(error.reason, error.message))
        workload = deployment(model, resolved)
        revision = workload["spec"]["template"]["metadata"]["labels"][LABEL_REVISION]
        children = ((DEPLOYMENTS, workload), (SERVICES, service(model)), (SERVICES, headless_service(model)))
        return Plan(resolved, revision, children, None)

    async def _act(self, model: ModelView, plan: Plan, observed: Observed) -> Blocked | None:
        """Apply what is due, all children side by side; the first thing that blocks is returned.

        All of them are waited for even when one fails: the next run must not meet a request of this one.
        """
        results = await asyncio.gather(
            *(self._apply_child(model, resource, manifest, observed) for resource, manifest in plan.children),
            return_exceptions=True,
        )
        blocked: list[Blocked] = []
        for result in results:
            if isinstance(result, BaseException):
                raise result
            if result:
                blocked.append(result)
        return blocked[0] if blocked else None

    async def _apply_child(
        self, model: ModelView, resource: Resource, manifest: Manifest, observed: Observed
    ) -> Blocked | None:
        key, name = (model.namespace, model.name), manifest["metadata"]["name"]
        slot = f"{resource.kind}/{name}"
        seen = observed.deployment if resource is DEPLOYMENTS else observed.services.get(name)
        uid = seen.uid if seen else ""
        action = decide(model, manifest, seen, self._settled.get(key, {}).get(slot))
        if action is Action.CREATE:
            action, uid = await self._look(model, resource, name)
        if action is Action.CONFLICT:
            return Blocked(RESOURCE_CONFLICT, f"{slot} exists and does not belong to this {MODEL_DEPLOYMENT}")
        if action is Action.KEEP:
            if seen:
                self._settled.setdefault(key, {})[slot] = seen.ownership
            return None
        return await self._apply(key, slot, resource, manifest, uid)

    async def _look(self, model: ModelView, resource: Resource, name: str) -> tuple[Action, str]:
        """Look for the object itself before the first apply, which would adopt a stranger of that name."""
        live = await self._api.get(resource, model.namespace, name)
        if live is None:
            return Action.APPLY, ""
        view = self._memory.remember(resource, live)
        if view is None or view.owner_uid != model.uid:
            return Action.CONFLICT, ""
        return Action.APPLY, view.uid

    async def _apply(
        self, key: Key, slot: str, resource: Resource, manifest: Manifest, uid: str
    ) -> Blocked | None:
        if uid:
            # With the uid, an object that was replaced since we looked is refused, never adopted.
            manifest = {**manifest, "metadata": {**manifest["metadata"], "uid": uid}}
        try:
            stored = await self._api.apply(resource, manifest)
        except Conflict:
            raise
        except (Forbidden, Invalid) as error:
            return Blocked(CHILD_REFUSED, scrub(f"{slot}: {error.message}"))
        _log.info("applied %s", slot)
        view = self._memory.remember(resource, stored)
        if isinstance(view, ChildView):
            self._settled.setdefault(key, {})[slot] = view.ownership
        return None

    async def _write_status(self, model: ModelView, status: Status) -> bool:
        """Write the status if it differs; whether it was written."""
        if status == model.status:
            return False
        manifest = {
            "apiVersion": API_VERSION,
            "kind": MODEL_DEPLOYMENT,
            "metadata": {
                "name": model.name,
                "namespace": model.namespace,
                "uid": model.uid,
                # A judgement of what has changed meanwhile is refused, and made anew.
                "resourceVersion": model.resource_version,
            },
            "status": status,
        }
        stored = await self._api.apply_status(MODEL_DEPLOYMENTS, manifest)
        if stored is None:
            return False
        self._memory.remember(MODEL_DEPLOYMENTS, stored)
        return True

    async def _tell(self, model: ModelView, readiness: Readiness) -> None:
        """Post an event when `Ready` changed its reason; after the status is stored, so that both agree."""
        before = find(model.status.get("conditions") or (), READY)
        now = readiness.ready
        if before.get("reason") == now.reason:
            return
        _log.info("ready=%s reason=%s message=%s", now.status, now.reason, now.message)
        if now.reason != PROGRESSING:
            kind = "Normal" if now.status == "True" else "Warning"
            await self._recorder.event(model, kind, now.reason, now.message)
        elif before.get("status") == "False" and before.get("reason"):
            await self._recorder.event(model, "Normal", EVENT_RECOVERED, now.message)

    def _measure(self, key: Key, observed: Observed, readiness: Readiness) -> None:
        self._meter.model_state(key, readiness.ready.reason)
        living = observed.living()
        known = self._ready_pods.get(key)
        for pod in _new([pod for pod in living if pod.ready], known):
            self._meter.pod_ready(phases(pod))
        # A pod that was ready once stays known, so that one that wavers is not counted again.
        self._ready_pods[key] = {pod.uid for pod in living if pod.ready or pod.uid in (known or ())}

    def _forget(self, key: Key) -> None:
        self._gatherer.forget(key)
        self._settled.pop(key, None)
        self._ready_pods.pop(key, None)
        self._meter.model_state(key, None)


def _assess(observed: Observed, plan: Plan, blocked: Blocked | None) -> Readiness:
    spec = plan.resolved.spec if plan.resolved else None
    return assess(
        observed,
        wanted=spec.wanted_replicas if spec else 0,
        revision=plan.revision,
        suspended=spec.suspend if spec else False,
        blocked=blocked,
        in_place=plan.resolved is not None and plan.resolved.strategy == IN_PLACE,
    )


def _new(ready: Sequence[PodView], known: set[str] | None) -> list[PodView]:
    """Pods that became ready since the last look. At the first look, after a start, none counts as new."""
    if known is None:
        return []
    return [pod for pod in ready if pod.uid not in known]
