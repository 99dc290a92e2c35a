"""Pods whose device is of no use to them: it is unhealthy, or another process holds it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from serval_operator.api.snapshots import PodView
from serval_operator.conversion_reasons import DEVICE_HELD, DEVICE_UNHEALTHY
from serval_operator.pods.device_report import Answer
from serval_operator.pods.observation import Observed
from serval_operator.pods.pod_faults import Fault
from serval_operator.pods.pod_state import Stage

SILENT = "the device is unhealthy, and the server does not say why"
SHARED = "its device plugin gives one device to several pods, and must give each to one"


@dataclass(frozen=True, slots=True)
class FaultyDevice:
    """A pod that cannot use its device.

    Parameters
    ----------
    reason:
        One of `serval_operator.conversion_reasons.DEVICE_FAULTS`.
    words:
        What its server says.
    since:
        From when on it is so at least; None where the pod's status does not tell.
    """

    pod: PodView
    reason: str
    words: str
    since: datetime | None

    def fault(self, outlook: str) -> Fault:
        """What to say of the pod.

        Parameters
        ----------
        outlook:
            What becomes of it.
        """
        cure = f"; {SHARED}" if self.reason == DEVICE_HELD else ""
        pod = self.pod
        ended = pod.server.terminated or pod.server.last if pod.server else None
        return Fault(
            self.reason,
            f"pod {pod.name} on node {pod.node}: {self.words}{cure}; {outlook}",
            exit_code=ended.exit_code if ended and self.reason == DEVICE_HELD else None,
            when=ended.finished if ended and self.reason == DEVICE_HELD else self.since,
        )


def faulty_devices(
    observed: Observed, revision: str, answers: Mapping[str, Answer]
) -> tuple[FaultyDevice, ...]:
    """Pods of a revision that cannot use their devices, by name.

    A pod that is ready is none of them, whatever its server said before.

    Parameters
    ----------
    answers:
        What pods said of their devices in their present state, by uid.
    """
    pods = sorted(observed.newest(revision), key=lambda pod: pod.name)
    found = (_look(observed, pod, answers.get(pod.uid)) for pod in pods)
    return tuple(one for one in found if one)


def _look(observed: Observed, pod: PodView, answer: Answer | None) -> FaultyDevice | None:
    verdict = observed.verdict(pod)
    if verdict.stage is not Stage.LOAD or pod.server is None:
        return None
    report = answer.report if answer and pod.server.running else None
    if verdict.reason == DEVICE_HELD:
        # A server that tells of its engine has opened its device: it has the lock by now.
        held = report is None or not report.engine
        return FaultyDevice(pod, DEVICE_HELD, verdict.message, pod.changed) if held else None
    if verdict.failed or report is None or report.healthy:
        return None
    times = [time for time in (pod.changed, pod.server.started) if time]
    return FaultyDevice(pod, DEVICE_UNHEALTHY, report.fault or SILENT, max(times, default=None))
