"""What an object that serves a model asks of the queue for devices. Pure."""

from __future__ import annotations

from serval_operator.api.blocks.scheduling import WAIT
from serval_operator.api.blocks.served import ServedSpec
from serval_operator.api.placement import Placement
from serval_operator.api.rivals import Claim


def served_claim(spec: ServedSpec, placement: Placement) -> Claim | None:
    """The claim of an object; None if it asks for no devices.

    `replicas` may be set by an autoscaler: it says how many pods are wanted, and the queue how many of them
    there may be.
    """
    if not placement.resource_name:
        return None
    return Claim(
        placement=placement,
        wanted=spec.wanted_replicas,
        priority_class=spec.scheduling.priority_class_name,
        when_busy=spec.accelerator.when_busy if spec.accelerator else WAIT,
    )
