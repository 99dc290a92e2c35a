"""Posts Kubernetes Events about custom resources: what `kubectl describe` shows below the object."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from datetime import datetime

from serval_operator.api.conditions import format_time
from serval_operator.api.resources import EVENTS
from serval_operator.api.snapshots import OwnerView
from serval_operator.api.text import scrub
from serval_operator.constants import API_VERSION, EVENT_COMPONENT
from serval_operator.errors import Conflict, KubeError
from serval_operator.runtime.kube_api import KubeApi, Object
from serval_operator.runtime.metrics import Metrics

REPEAT_SECONDS = 600.0
"""The same event about the same object is not posted again within this time."""
MOST_REMEMBERED = 10_000
LONGEST_MESSAGE = 1024
"""The API server refuses an Event with a longer note."""

_log = logging.getLogger(__name__)


class EventRecorder:
    """Posts events; one that cannot be posted is logged and given up, for it is only news.

    Parameters
    ----------
    now:
        Aware time for the events' own times, by the API server's clock.
    clock:
        Monotonic seconds.
    """

    def __init__(
        self,
        api: KubeApi,
        meter: Metrics,
        *,
        now: Callable[[], datetime],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._meter = meter
        self._clock = clock
        self._now = now
        self._posted: dict[str, float] = {}

    async def event(self, model: OwnerView, kind: str, reason: str, message: str) -> None:
        """Post an event.

        Parameters
        ----------
        kind:
            ``Normal`` or ``Warning``.
        reason:
            One of `serval_operator.reasons`.
        """
        text = scrub(message, LONGEST_MESSAGE)
        digest = _digest(model.uid, kind, reason, text)
        now = self._clock()
        if now - self._posted.get(digest, -REPEAT_SECONDS) < REPEAT_SECONDS:
            return
        self._posted[digest] = now
        self._forget(now)
        try:
            await self._api.create(EVENTS, self._manifest(model, kind, reason, text, digest))
        except Conflict:
            # Posted before, by this process's predecessor: the name says so.
            return
        except KubeError as error:
            self._posted.pop(digest, None)
            self._meter.event_failed()
            _log.warning("event %s not posted: %s", reason, error)

    def _manifest(self, model: OwnerView, kind: str, reason: str, text: str, digest: str) -> Object:
        moment = self._now()
        # One name per event and stretch of time, so that a restarted operator does not repeat itself.
        stretch = int(moment.timestamp() // REPEAT_SECONDS)
        stamp = format_time(moment)
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "namespace": model.namespace,
                "name": f"{model.name}.{_digest(digest, str(stretch))}",
            },
            "involvedObject": {
                "apiVersion": API_VERSION,
                "kind": model.key.kind,
                "namespace": model.namespace,
                "name": model.name,
                "uid": model.uid,
                "resourceVersion": model.resource_version,
            },
            "type": kind,
            "reason": reason,
            "message": text,
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "count": 1,
            "source": {"component": EVENT_COMPONENT},
            "reportingComponent": EVENT_COMPONENT,
            "reportingInstance": EVENT_COMPONENT,
        }

    def _forget(self, now: float) -> None:
        """Drop what is too old to matter, once there is much of it."""
        if len(self._posted) > MOST_REMEMBERED:
            self._posted = {
                digest: moment for digest, moment in self._posted.items() if now - moment < REPEAT_SECONDS
            }


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
