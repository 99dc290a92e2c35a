"""Observations out of raw objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from serval_operator.api.resources import DEPLOYMENTS, SERVICES
from serval_operator.api.snapshots import (
    parse_deployment,
    parse_owner,
    parse_pod,
    parse_pod_warning,
    parse_service,
)
from serval_operator.pods.observation import Observed
from support import gen


def observed(
    *pods: gen.Object,
    model: gen.Object | None = None,
    deployment: gen.Object | None = None,
    services: Sequence[gen.Object] | None = None,
    warnings: Mapping[str, Sequence[gen.Object]] | None = None,
    now: float = 60.0,
) -> Observed:
    """What was seen ``now`` seconds after the start: by default all children, and nothing wrong with them."""
    seen = [gen.service(), gen.service(name=f"{gen.MODEL}-headless")] if services is None else services
    return Observed(
        model=parse_owner(model or gen.model()),
        children={
            DEPLOYMENTS: {gen.MODEL: parse_deployment(deployment or gen.deployment())},
            SERVICES: {view.name: view for view in map(parse_service, seen)},
        },
        pods=tuple(map(parse_pod, pods)),
        now=gen.moment(now),
        warnings={uid: tuple(map(parse_pod_warning, events)) for uid, events in (warnings or {}).items()},
    )
