"""Replicas without a place: how many of the wanted ones no node takes, and have not for a while. Pure.

A PodDisruptionBudget counts such a replica as unavailable, for as long as the cluster has no room. The pods
that answer could then not be evicted, and a drain of their node would hang.
"""

from __future__ import annotations

from datetime import timedelta

from serval_operator.pods.observation import Observed

LASTS = timedelta(seconds=30)
"""How long a pod has to be without a place before it counts: schedulers and rollouts take a few seconds."""


def count_placeless(observed: Observed, *, replicas: int, known: int) -> int:
    """Count replicas that lack a place and have lacked it for a while.

    Parameters
    ----------
    replicas:
        Pods that the Deployment is asked for. A rollout may have one more, which is not missed.
    known:
        How many were counted before. There are not more of them while a pod is being stopped, whose place one
        of them may get: so that the count does not change with every pod that is replaced.
    """
    living = observed.active()
    missing = replicas - sum(bool(pod.node) for pod in living)
    since = observed.now - LASTS
    waits = [pod for pod in living if pod.unschedulable and not pod.node]
    lasting = sum(pod.created is not None and pod.created <= since for pod in waits)
    refused = observed.deployment.create_failure if observed.deployment else ""
    lacking = lasting + (max(replicas - len(living), 0) if refused else 0)
    found = max(min(lacking, missing), 0)
    return min(found, known) if observed.making_room else found
