"""Asks pods what their model runs on, beside the reconciles, and keeps the answers.

A pod that became ready is asked by a task of its own; a reconcile never waits for it, and is called again
when there is something new. A pod that does not answer, or does not know yet, as before the first run of its
model, is asked again with growing pauses; so is one that computes on the CPU, since a later signature may
compute on the device. Where no pod holds a device, or all are known to use theirs, nothing is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from serval_contract.ports import PORT_HTTP
from serval_operator.api.naming import Key
from serval_operator.api.snapshots import PodView
from serval_operator.pods.device_report import Answer, read_report
from serval_operator.pods.pod_tasks import Asked, PodTasks
from serval_operator.runtime.pod_metrics import HttpProber

FIRST_PAUSE = 5.0
LONGEST_PAUSE = 600.0
"""Bounds, in seconds, of the pause until a pod is asked again. It doubles with each attempt."""


class Devices:
    """What the pods of custom resources run on.

    Parameters
    ----------
    wake:
        Called when there is something new about a custom resource.
    """

    def __init__(
        self,
        prober: HttpProber,
        wake: Callable[[Key], None],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._prober = prober
        self._wake = wake
        self._sleep = sleep
        self._tasks = PodTasks(Answer, self._ask)

    def answers(self, key: Key, pods: Sequence[PodView]) -> dict[str, Answer]:
        """What the operator knows of pods, by uid; those that are ready and new are asked from now on.

        Parameters
        ----------
        pods:
            Pods of a custom resource that hold a device and whose server reports what it runs on. All others
            of it are forgotten.
        """
        return self._tasks.follow(
            key, [Asked(pod, pod.server.restarts if pod.server else 0, pod.ready) for pod in pods]
        )

    def forget(self, key: Key) -> None:
        """Forget a custom resource that is gone."""
        self.answers(key, ())

    async def _ask(self, key: Key, asked: Asked, answer: Answer) -> None:
        pause = FIRST_PAUSE
        while True:
            async with self._tasks.slots:
                page = await self._prober.metrics(asked.pod.ip, PORT_HTTP)
            report = read_report(page) if page is not None else None
            news = report != answer.report or not answer.asked
            answer.asked, answer.report = True, report
            if news:
                self._wake(key)
            if report is not None and (report.in_use or report.emulated):
                return
            await self._sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
