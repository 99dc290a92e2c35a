"""Observations in the middle of a rollout, a few words each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from serval_operator.api.resources import DEPLOYMENTS
from serval_operator.api.snapshots import RevisionView, parse_deployment, parse_owner, parse_pod
from serval_operator.pods.observation import Observed
from support import gen


def seeing(
    *pods: gen.Object,
    carried: str = "",
    replicas: int = 1,
    surge: bool = False,
    records: Sequence[RevisionView] = (),
    serving: str = "",
    now: float = 60.0,
    **more: Any,
) -> Observed:
    """What is seen ``now`` seconds after the start.

    Parameters
    ----------
    carried:
        Revision of the Deployment's template; empty where there is no Deployment.
    replicas, surge:
        What the Deployment says.
    serving:
        `status.servingRevision`.
    more:
        Further fields of `Observed`.
    """
    deployment = replace(parse_deployment(gen.deployment()), revision=carried, replicas=replicas, surge=surge)
    return Observed(
        model=parse_owner(gen.model(status={"servingRevision": serving})),
        children={DEPLOYMENTS: {gen.MODEL: deployment}} if carried else {},
        pods=tuple(map(parse_pod, pods)),
        now=gen.moment(now),
        revisions=tuple(records),
        **more,
    )
