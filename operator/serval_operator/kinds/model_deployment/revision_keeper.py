"""Upkeep: what goes along with a rollout and decides nothing about it.

Revisions are recorded, marked and dropped, replicas to come are bound to the version that the first one
found, and pods that a node refused are cleared away.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping

from serval_operator.api.conditions import Blocked
from serval_operator.api.naming import Key
from serval_operator.api.observation import Observed
from serval_operator.api.resources import CONFIG_MAPS, CONTROLLER_REVISIONS, PODS, SERVICE_ACCOUNTS
from serval_operator.api.snapshots import OwnerView, PodView, RevisionView
from serval_operator.constants import (
    ANNOTATION_FAILED_MESSAGE,
    ANNOTATION_FAILED_REASON,
    ANNOTATION_SERVED,
)
from serval_operator.errors import Conflict, Forbidden, Invalid, KubeError
from serval_operator.kinds.model_deployment.desired import Desired
from serval_operator.kinds.model_deployment.manifests.pin import pin
from serval_operator.kinds.model_deployment.manifests.revision import revision_record
from serval_operator.kinds.model_deployment.service_account_policy import judge_service_account
from serval_operator.pods.pod_state import fetch_result
from serval_operator.runtime.applier import Memory, refusal
from serval_operator.runtime.drift import conflict
from serval_operator.runtime.kube_api import KubeApi
from serval_operator.workload.revision_history import next_number, surplus

TRUE = "true"
TOGETHER = 10
"""Dead pods that are deleted side by side."""

_log = logging.getLogger(__name__)


class Upkeep:
    """Keeps the revisions, pins and dead pods of ModelDeployments in order."""

    def __init__(self, api: KubeApi, memory: Memory) -> None:
        self._api = api
        self._memory = memory
        self._pinned: dict[Key, tuple[str, str]] = {}

    async def barred(self, model: OwnerView, desired: Desired, observed: Observed) -> Blocked | None:
        """Why the pods of a new revision may not run as the ServiceAccount that the spec names.

        It is asked once, before the revision is recorded: what runs is not stopped by it.
        """
        if observed.revision(desired.revision) or not desired.service_account:
            return None
        try:
            account = await self._api.get(SERVICE_ACCOUNTS, model.namespace, desired.service_account)
        except Forbidden as error:
            return refusal(f"{SERVICE_ACCOUNTS.kind}/{desired.service_account}", error)
        return judge_service_account(desired.service_account, account)

    async def record(self, model: OwnerView, desired: Desired, observed: Observed) -> Blocked | None:
        """Keep the newest revision's template, unless it is kept already; what the API server has against it.

        The revision that served until now is marked, so that it can be gone back to.

        Raises
        ------
        KubeError
            Something transient.
        """
        if observed.revision(desired.revision):
            return None
        manifest = revision_record(
            model,
            key=desired.revision,
            template=desired.template,
            facts=desired.facts,
            number=next_number(observed.revisions),
        )
        try:
            stored = await self._api.create(CONTROLLER_REVISIONS, manifest)
        except Conflict:
            # It is there already, and the cache has not heard of it.
            name = manifest["metadata"]["name"]
            found = await self._api.get(CONTROLLER_REVISIONS, model.namespace, name)
            if found is None:
                raise
            stored = found
        except (Forbidden, Invalid) as error:
            return refusal(f"{CONTROLLER_REVISIONS.kind}/{manifest['metadata']['name']}", error)
        view = self._memory.remember(CONTROLLER_REVISIONS, stored)
        blocked = conflict(model, f"{CONTROLLER_REVISIONS.kind}/{view.name}", view) if view else None
        if blocked:
            return blocked
        _log.debug("recorded revision %s", desired.revision)
        for one in observed.revisions:
            if one.key == model.status.get("servingRevision") and not one.served:
                await self._mark(one, {ANNOTATION_SERVED: TRUE})
        return None

    async def give_up(self, record: RevisionView, failure: Blocked) -> bool:
        """Write down why a revision failed, so that it is not tried again; whether there was where to."""
        return await self._mark(
            record, {ANNOTATION_FAILED_REASON: failure.reason, ANNOTATION_FAILED_MESSAGE: failure.message}
        )

    async def pin(self, model: OwnerView, desired: Desired, observed: Observed) -> None:
        """Bind replicas to come to the version that the first one found."""
        if desired.resolved.spec.model.version is not None or self.is_pinned(model, desired):
            return
        record = observed.revision(desired.revision)
        results = (fetch_result(pod) for pod in observed.newest(desired.revision))
        found = next((one for one in results if one and one.version is not None and one.digest), None)
        if record is None or found is None or found.version is None:
            return
        manifest = pin(model, record, version=found.version, digest=found.digest)
        try:
            await self._api.create(CONFIG_MAPS, manifest)
        except Conflict:
            # It is there already: it was made before a restart, or before the status could be written.
            pass
        except (Forbidden, Invalid) as error:
            _log.warning("replicas cannot be bound to version %d: %s", found.version, error.message)
            return
        self._pinned[model.key] = (model.uid, desired.revision)

    def is_pinned(self, model: OwnerView, desired: Desired) -> bool:
        """Whether replicas to come are bound to one version and digest."""
        if desired.resolved.spec.model.version is not None:
            return False
        if self._pinned.get(model.key) == (model.uid, desired.revision):
            return True
        known = model.status.get("model") or {}
        return bool(known.get("pinned")) and model.status.get("revision") == desired.revision

    def forget(self, key: Key) -> None:
        """Forget an object that is gone."""
        self._pinned.pop(key, None)

    async def tidy(self, observed: Observed, *, in_use: Iterable[str], trim: Iterable[PodView]) -> None:
        """Drop revisions beyond the history, and dead pods; a failure here costs nothing but a log line."""
        try:
            for record in surplus(observed.revisions, in_use=frozenset(in_use)):
                await self._api.delete(CONTROLLER_REVISIONS, record.namespace, record.name, uid=record.uid)
            pods = tuple(trim)
            for start in range(0, len(pods), TOGETHER):
                await asyncio.gather(*(self._drop(pod) for pod in pods[start : start + TOGETHER]))
        except KubeError as error:
            _log.warning("could not tidy up: %s", error)

    async def _drop(self, pod: PodView) -> None:
        await self._api.delete(PODS, pod.namespace, pod.name, uid=pod.uid)

    async def _mark(self, record: RevisionView, annotations: Mapping[str, str]) -> bool:
        """Annotate a revision; whether it is still there, and ours to annotate."""
        body = {"metadata": {"uid": record.uid, "annotations": dict(annotations)}}
        try:
            stored = await self._api.merge(CONTROLLER_REVISIONS, record.namespace, record.name, body)
        except Forbidden as error:
            _log.warning("revision %s cannot be marked: %s", record.name, error.message)
            return False
        if stored is not None:
            self._memory.remember(CONTROLLER_REVISIONS, stored)
        return stored is not None
