"""What a ModelDeployment says of the devices that its pods wait for: a condition, and who holds them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serval_operator.api.conditions import Condition
from serval_operator.api.placement import Placement
from serval_operator.api.snapshots import PodView
from serval_operator.cluster.capacity import CapacityVerdict
from serval_operator.constants import ACCELERATOR_AVAILABLE
from serval_operator.pods.observation import Observed
from serval_operator.reasons import CAPACITY_UNKNOWN, DONE, FITS, PROGRESSING
from serval_operator.workload.readiness import is_patient

MOST_HOLDERS = 10
"""Holders that the status names: as many as the CRD takes."""


def waiting_pods(observed: Observed, *, revision: str, wanted: int, in_place: bool) -> tuple[PodView, ...]:
    """Pods of the newest revision that no node takes, and that wait for no predecessor's place."""
    if is_patient(observed, wanted=wanted, in_place=in_place):
        return ()
    return tuple(pod for pod in observed.newest(revision) if not pod.node and pod.unschedulable)


def accelerator_condition(
    observed: Observed, request: Placement, verdict: CapacityVerdict | None, *, revision: str, wanted: int
) -> Condition | None:
    """Condition `AcceleratorAvailable`; None where no extended resource is asked for.

    Parameters
    ----------
    verdict:
        The capacity verdict, taken only while a pod waits or none may be made; else None.
    """
    if not request.resource_name:
        return None
    placed = sum(bool(pod.node) for pod in observed.newest(revision))
    each = f"{request.count} {request.resource_name}"
    if placed >= wanted:
        return Condition(ACCELERATOR_AVAILABLE, "True", DONE, f"{placed} of {wanted} pods have {each} each")
    if verdict is None:
        text = f"{placed} of {wanted} pods have {each} each"
        return Condition(ACCELERATOR_AVAILABLE, "Unknown", PROGRESSING, text)
    if verdict.reason == FITS:
        return Condition(ACCELERATOR_AVAILABLE, "True", FITS, verdict.message)
    text = f"{wanted - placed} of {wanted} pods: {verdict.message}"
    if verdict.reason == CAPACITY_UNKNOWN:
        return Condition(ACCELERATOR_AVAILABLE, "Unknown", CAPACITY_UNKNOWN, text)
    return Condition(ACCELERATOR_AVAILABLE, "False", verdict.reason, text)


def volatile_fields(status: Mapping[str, Any]) -> tuple[str, ...]:
    """Fields of a status that change with other objects: who holds devices, and the place in the queue."""
    waits = status.get("accelerator") or {}
    return ("accelerator",) if waits.get("holders") or waits.get("position") else ()


def accelerator_status(
    request: Placement, verdict: CapacityVerdict | None, *, lacking: int
) -> dict[str, Any] | None:
    """`status.accelerator`; None unless something waits for a device.

    Parameters
    ----------
    lacking:
        Pods that have no place.
    """
    if verdict is None or not request.resource_name:
        return None
    status: dict[str, Any] = {
        "resourceName": request.resource_name,
        "requested": request.count * lacking,
    }
    if verdict.free is not None:
        status["free"] = verdict.free
    if verdict.position:
        status["position"] = verdict.position
    holders = [
        {
            field: value
            for field, value in (
                ("kind", one.kind),
                ("namespace", one.namespace),
                ("name", one.name),
                ("node", one.node),
                ("count", one.count),
            )
            if value
        }
        for one in verdict.holders[:MOST_HOLDERS]
    ]
    return {**status, "holders": holders} if holders else status
