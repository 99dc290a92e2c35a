"""Asks pods what their model runs on, beside the reconciles, and keeps the answers.

A pod that became ready is asked by a task of its own; a reconcile never waits for it, and is called again
when there is something new. A pod that does not answer, or does not know yet, as before the first run of its
model, is asked again with growing pauses; so is one that computes on the CPU, since a later signature may
compute on the device. Where no pod holds a device, or all are known to use theirs, nothing is sent.

A pod whose device is for its model alone is asked anew when it stops being ready, and while it is not: its
server says whether the device is unhealthy, and why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from serval_contract.ports import PORT_HTTP
from serval_operator.api.naming import Key
from serval_operator.api.snapshots import PodView
from serval_operator.pods.device_report import Answer, DeviceReport, read_fault, read_report
from serval_operator.pods.pod_tasks import Asked, PodTasks
from serval_operator.runtime.pod_metrics import HttpProber

FIRST_PAUSE = 5.0
LONGEST_PAUSE = 600.0
"""Bounds, in seconds, of the pause until a pod is asked again. It doubles with each attempt."""
LONGEST_UNREADY_PAUSE = 60.0
"""The upper bound for a pod that is not ready: it starts, or its device is unhealthy."""


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

    def known(self, key: Key) -> dict[str, Answer]:
        """What the operator knows of the pods of a custom resource, by uid; nobody is asked for it."""
        return self._tasks.answers(key)

    def answers(self, key: Key, pods: Sequence[PodView], exclusive: str = "") -> dict[str, Answer]:
        """What the operator knows of pods, by uid; those that are ready and new are asked from now on.

        Parameters
        ----------
        pods:
            Pods of a custom resource that hold a device and whose server reports what it runs on. All others
            of it are forgotten.
        exclusive:
            Name of the model, where its devices are for it alone. Then pods are asked anew when their
            readiness changes, and those that run and are not ready are asked too.
        """
        return self._tasks.follow(key, [_asked(pod, exclusive) for pod in pods])

    def forget(self, key: Key) -> None:
        """Forget a custom resource that is gone."""
        self.answers(key, ())

    async def _ask(self, key: Key, asked: Asked, answer: Answer) -> None:
        pause = FIRST_PAUSE
        while True:
            async with self._tasks.slots:
                report = await self._report(asked)
            news = report != answer.report or not answer.asked
            answer.asked, answer.report = True, report
            if news:
                self._wake(key)
            if asked.pod.ready and report is not None and (report.in_use or report.emulated):
                return
            await self._sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE if asked.pod.ready else LONGEST_UNREADY_PAUSE)

    async def _report(self, asked: Asked) -> DeviceReport | None:
        """What a pod's server says; None where it does not answer."""
        page = await self._prober.metrics(asked.pod.ip, PORT_HTTP)
        if page is None:
            return None
        report = read_report(page)
        if report.healthy or not asked.model:
            return report
        status = await self._prober.status(asked.pod.ip, PORT_HTTP, asked.model)
        return replace(report, fault=read_fault(status or ""))


def _asked(pod: PodView, exclusive: str) -> Asked:
    restarts = pod.server.restarts if pod.server else 0
    if not exclusive:
        return Asked(pod, restarts, pod.ready)
    # What a server said while the pod was ready tells nothing of why it is not, and the other way round.
    runs = pod.server is not None and pod.server.running and bool(pod.ip)
    return Asked(pod, 2 * restarts + pod.ready, pod.ready or runs, exclusive)
