"""Reads the progress pages of running Jobs beside the reconciles, and keeps the newest page of each pod.

A reconcile never waits for a page. It is called again when a page changed, for each custom resource at most
every ten seconds: each of these calls may write the status.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from serval_contract.progress import Progress, parse_progress
from serval_operator.api.naming import Key
from serval_operator.jobs.plan import ToPoll
from serval_operator.pods.pod_tasks import Asked, PodTasks
from serval_operator.runtime.pod_metrics import HttpProber

INTERVAL = 10.0
"""Seconds between two pages of a pod, and at least between two calls for one custom resource."""
PAUSE_WITHOUT_ANSWER = 20.0
"""Seconds until a pod that did not answer is asked again. It does not grow: the fetcher has no page, and the
stage after it may be over within half a minute."""


@dataclass(slots=True)
class _Page:
    """The newest page of a pod.

    Parameters
    ----------
    news:
        Whether it changed since its custom resource was last called for it.
    """

    progress: Progress | None = None
    news: bool = False


class ProgressPoller:
    """The progress of running Jobs.

    Parameters
    ----------
    wake:
        Called when there is something new about a custom resource.
    clock:
        Monotonic seconds.
    """

    def __init__(
        self,
        reader: HttpProber,
        wake: Callable[[Key], None],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader = reader
        self._wake = wake
        self._sleep = sleep
        self._clock = clock
        self._tasks = PodTasks(_Page, self._poll)
        self._woken: dict[Key, float] = {}

    def pages(self, key: Key) -> dict[str, Progress]:
        """Newest pages of the pods that are polled for a custom resource, by uid."""
        known = self._tasks.answers(key).items()
        return {uid: page.progress for uid, page in known if page.progress is not None}

    def poll(self, key: Key, pods: Sequence[ToPoll]) -> None:
        """Poll these pods of a custom resource from now on, and no others."""
        self._tasks.follow(key, [Asked(one.pod, one.port, ready=True) for one in pods])

    def forget(self, key: Key) -> None:
        """Forget a custom resource that is gone."""
        self.poll(key, ())
        self._woken.pop(key, None)

    async def _poll(self, key: Key, asked: Asked, page: _Page) -> None:
        while True:
            async with self._tasks.slots:
                text = await self._reader.progress(asked.pod.ip, asked.run)
            progress = parse_progress(text) if text is not None else None
            if progress is not None and progress != page.progress:
                page.progress, page.news = progress, True
            if page.news and self._may_wake(key):
                page.news = False
                self._wake(key)
            await self._sleep(PAUSE_WITHOUT_ANSWER if progress is None else INTERVAL)

    def _may_wake(self, key: Key) -> bool:
        """Whether the last call for a custom resource is long enough ago; takes the turn if so."""
        now, last = self._clock(), self._woken.get(key)
        if last is not None and now - last < INTERVAL:
            return False
        self._woken[key] = now
        return True
