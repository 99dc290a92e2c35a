"""What is done about pods that cannot use their devices, and what is said of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from serval_operator.api.actions import Deletion
from serval_operator.api.placement import Placement
from serval_operator.api.resources import PODS
from serval_operator.cluster.capacity import judge_capacity
from serval_operator.cluster.questions import Answers, CapacityQuestion
from serval_operator.pods.device_faults import FaultyDevice, faulty_devices
from serval_operator.pods.device_moves import Move, plan_move, read_record, where_free
from serval_operator.pods.device_report import Answer
from serval_operator.pods.observation import Observed
from serval_operator.pods.pod_faults import Fault
from serval_operator.turns.standing import look
from serval_operator.workload.workload import Workload


@dataclass(frozen=True, slots=True)
class Care:
    """The decision about pods that cannot use their devices.

    Parameters
    ----------
    faults:
        What to say of them, by uid.
    """

    move: Move = field(default_factory=Move)
    faults: Mapping[str, Fault] = field(default_factory=dict)

    @property
    def deletions(self) -> tuple[Deletion, ...]:
        """The pod that is deleted, so that its Deployment makes another one."""
        return (Deletion(PODS, self.move.pod),) if self.move.pod else ()

    def seen(self, observed: Observed) -> Observed:
        """The same observation, with what is known of these pods."""
        return replace(observed, faults=self.faults)


def take_care(
    observed: Observed, workload: Workload, devices: Mapping[str, Answer], answers: Answers
) -> Care:
    """Decide about the pods of the newest revision.

    Parameters
    ----------
    devices:
        What pods said of their devices until now, by uid.

    Raises
    ------
    Unanswered
        The free devices, or the others that ask for them, have to be known first.
    """
    faulty = faulty_devices(observed, workload.revision, devices)
    record = read_record(observed.model.status, observed.now)
    move = plan_move(faulty, busy=_is_busy(observed, faulty), record=record, now=observed.now)
    if move.pod is not None:
        free = unclaimed(observed, workload.placement, answers) if workload.wanted else 0
        move = where_free(move, free, observed.now)
    return Care(move, {one.pod.uid: one.fault(move.outlook) for one in faulty})


def unclaimed(observed: Observed, request: Placement, answers: Answers) -> int | None:
    """How many more pods would find a free device that nobody else waits for; None where it is not known.

    Raises
    ------
    Unanswered
        See `take_care`.
    """
    name = request.resource_name
    # Fresh: a count that misses a device that was taken a second ago stops a pod for nothing.
    supply = answers.supply(CapacityQuestion(name, with_holds=True, fresh=True))
    if supply.nodes is None or supply.holds is None or name in supply.claimable:
        return None
    # Whoever waits is given what is free before a pod is moved there.
    round_ = look(answers.rivals_for(name), supply, name, observed.now)
    mine = round_.contenders.get(observed.model.uid)
    if mine is not None:
        return sum(round_.turns.free.get(node, 0) // mine.units for node in mine.nodes)
    namespace = observed.model.namespace
    return judge_capacity(request, supply, namespace=namespace, hide_foreign=True).fits or 0


def _is_busy(observed: Observed, faulty: tuple[FaultyDevice, ...]) -> bool:
    """Whether a pod stops or starts. One that no node takes waits for a device, and says so itself."""
    known = {one.pod.uid for one in faulty}
    stops = any(pod.deleting and pod.node and not pod.ended for pod in observed.pods)
    return stops or any(
        not pod.ready and pod.uid not in known and bool(pod.node or not pod.unschedulable)
        for pod in observed.active()
    )
