"""Publishes a judgement: the status in one write if it differs, then Events, and metrics in any case."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serval_operator.api.conditions import Condition, find
from serval_operator.api.judgement import Judgement, Status
from serval_operator.api.naming import Key, Manifest
from serval_operator.api.resources import Resource
from serval_operator.api.snapshots import OwnerView
from serval_operator.constants import EVENT_RECOVERED, EVENT_STATUS_REFUSED, READY
from serval_operator.errors import Forbidden, Invalid, KubeError
from serval_operator.reasons import PROGRESSING
from serval_operator.runtime.cache import Cache
from serval_operator.runtime.event_recorder import EventRecorder
from serval_operator.runtime.kube_api import KubeApi

WORDS_EVERY = 30.0
"""Seconds between two writes of a status in which only volatile fields and messages changed. Who holds a
device, for example, changes with each pod of the cluster."""

_BARE = ("observedGeneration", "conditions")
"""Fields of a status that every kind has."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Published:
    """What became of a judgement.

    Parameters
    ----------
    again:
        Seconds after which a change of volatile fields is due, or None.
    """

    written: bool = False
    again: float | None = None


class Publisher:
    """Writes the statuses of one kind and posts Events about them.

    Parameters
    ----------
    clock:
        Monotonic seconds.
    """

    def __init__(
        self,
        api: KubeApi,
        resource: Resource,
        memory: Cache,
        recorder: EventRecorder,
        clock: Callable[[], float],
    ) -> None:
        self._api = api
        self._resource = resource
        self._memory = memory
        self._recorder = recorder
        self._clock = clock
        self._written: dict[Key, float] = {}

    async def publish(self, model: OwnerView, judgement: Judgement, status: Status) -> Published:
        """Write the status if it differs, then post Events.

        Parameters
        ----------
        status:
            The whole status that the judgement comes to.

        Raises
        ------
        KubeError
            The status could not be written.
        """
        if status == model.status:
            return Published()
        now = self._clock()
        due = self._written.get(model.key, now - WORDS_EVERY) + WORDS_EVERY
        volatile = judgement.volatile
        if now < due and volatile and _stable(model.status, volatile) == _stable(status, volatile):
            return Published(again=due - now)
        if not await self._write(model, status):
            return Published()
        self._written[model.key] = now
        await self._tell(model, judgement)
        return Published(written=True)

    def forget(self, key: Key) -> None:
        """Forget an object that is gone."""
        self._written.pop(key, None)

    async def _write(self, model: OwnerView, status: Status) -> bool:
        """Write the status; whether it was written."""
        manifest = {
            "apiVersion": self._resource.api_version,
            "kind": self._resource.kind,
            "metadata": {
                "name": model.name,
                "namespace": model.namespace,
                "uid": model.uid,
                # A judgement of an object that has changed since is refused, and the object judged again.
                "resourceVersion": model.resource_version,
            },
            "status": status,
        }
        try:
            stored = await self._api.apply_status(self._resource, manifest)
        except (Forbidden, Invalid) as error:
            await self._refused(model, manifest, error)
            raise
        if stored is None:
            return False
        self._memory.remember(self._resource, stored)
        return True

    async def _refused(self, model: OwnerView, manifest: Manifest, error: KubeError) -> None:
        """Tell that the status is refused, and store of it only what no schema can refuse."""
        _log.error("the status is refused: %s", error.message)
        text = f"the API server refuses the status: {error.message}"
        await self._recorder.event(model, "Warning", EVENT_STATUS_REFUSED, text)
        # What the status remembers stays, such as the Jobs that never run again.
        bare = {**model.status, **{field: manifest["status"][field] for field in _BARE}}
        if isinstance(error, Invalid) and bare != model.status:
            stored = await self._api.apply_status(self._resource, {**manifest, "status": bare})
            if stored is not None:
                self._memory.remember(self._resource, stored)

    async def _tell(self, model: OwnerView, judgement: Judgement) -> None:
        """Post Events about what changed; after the status is stored, so that both agree."""
        before = model.status.get("conditions") or ()
        ready = judgement.condition(READY)
        if ready:
            await self._tell_ready(model, find(before, READY), ready)
        for reason, message in judgement.warnings:
            await self._recorder.event(model, "Warning", reason, message)
        for kind in judgement.told:
            now = judgement.condition(kind)
            if now and now.status == "False" and find(before, kind).get("status") != "False":
                await self._recorder.event(model, "Warning", now.reason, now.message)

    async def _tell_ready(self, model: OwnerView, before: Mapping[str, Any], now: Condition) -> None:
        """Post an Event when `Ready` changed its reason."""
        if before.get("reason") == now.reason:
            return
        _log.info("ready=%s reason=%s message=%s", now.status, now.reason, now.message)
        if now.reason != PROGRESSING:
            kind = "Normal" if now.status == "True" else "Warning"
            await self._recorder.event(model, kind, now.reason, now.message)
        elif before.get("status") == "False" and before.get("reason"):
            await self._recorder.event(model, "Normal", EVENT_RECOVERED, now.message)


def _stable(status: Mapping[str, Any], volatile: Sequence[str]) -> Status:
    """A status without messages and volatile fields."""
    conditions = [{**one, "message": ""} for one in status.get("conditions") or ()]
    return {**status, "conditions": conditions} | dict.fromkeys(volatile)
