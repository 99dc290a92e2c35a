"""An object as the queue sees it: its claim, its Deployment and its pods. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from serval_operator.api.conditions import find
from serval_operator.api.rivals import REPLACED_BY, Claim, Rival, parse_replacement
from serval_operator.api.snapshots import DeploymentView, OwnerView, PodView
from serval_operator.api.unstructured import mapping, mappings, parse_time, whole
from serval_operator.constants import ACCELERATOR_AVAILABLE, READY
from serval_operator.pods.scheduler_words import lacks_device
from serval_operator.reasons import BLOCKING_REASONS


def see_rival(
    owner: OwnerView,
    claim: Claim,
    deployment: DeploymentView | None,
    pods: Sequence[PodView],
    freed: datetime | None = None,
) -> Rival:
    """Look at one object.

    Parameters
    ----------
    deployment:
        The Deployment that makes its pods; None if it does not exist or has another owner.
    pods:
        Pods of its name, without those of Jobs; those of a deleted predecessor still hold devices.
    freed:
        When one of its pods was last seen to end.
    """
    living = [pod for pod in pods if not pod.ended]
    own = [pod for pod in living if pod.owner_uid == owner.uid]
    homeless = [pod for pod in own if not pod.node and not pod.deleting and pod.unschedulable]
    made = [pod.created for pod in homeless if pod.created]
    if not claim.prepared and deployment is None:
        claim = replace(claim, wanted=0)
    return Rival(
        key=owner.key,
        uid=owner.uid,
        generation=owner.generation,
        created=owner.created,
        claim=claim,
        made=deployment is not None,
        asked=deployment.replicas if deployment else 0,
        placed=sum(bool(pod.node) and not pod.deleting for pod in own),
        on_nodes=on_nodes(pods),
        homeless=len(homeless),
        homeless_since=max(made, default=None),
        lacks_device=all(lacks_device(pod.unschedulable) for pod in homeless),
        rolling=deployment is not None
        and any(pod.node and pod.revision != deployment.revision for pod in own),
        refused=bool(deployment and deployment.create_failure),
        blocked=_is_blocked(owner),
        since=_since(owner),
        queued=bool(mapping(owner.status, "accelerator").get("position")),
        record=parse_replacement(owner.status),
        was_replaced=whole(mapping(owner.status, REPLACED_BY).get("generation")) == owner.generation,
        freed=freed,
    )


def gone(before: Rival, pods: Sequence[PodView]) -> Rival | None:
    """The rest of an object that was deleted, or asks for nothing any more; None if nothing is left.

    Its pods hold their devices until they end.
    """
    left = on_nodes(pods)
    if not left:
        return None
    nothing = replace(before.claim, wanted=0)
    return replace(
        before, claim=nothing, made=False, asked=0, placed=0, on_nodes=left, homeless=0, record=None
    )


def on_nodes(pods: Sequence[PodView]) -> tuple[tuple[str, str], ...]:
    """Name and node of each pod that has one and has not ended."""
    return tuple(sorted((pod.name, pod.node) for pod in pods if pod.node and not pod.ended))


def _is_blocked(owner: OwnerView) -> bool:
    """Whether its status says that something about its newest spec keeps its pods from being made."""
    ready = find(mappings(owner.status, "conditions"), READY)
    current = owner.status.get("observedGeneration") == owner.generation
    return current and ready.get("reason") in BLOCKING_REASONS


def _since(owner: OwnerView) -> datetime | None:
    """When it began to wait for a device, as its status says."""
    waits = find(mappings(owner.status, "conditions"), ACCELERATOR_AVAILABLE)
    return parse_time(waits.get("lastTransitionTime")) if waits.get("status") == "False" else None


def lets_go(before: Rival, after: Rival | None) -> bool:
    """Whether a change of an object may be the turn of others: it holds, wants or blocks less."""
    if after is None or after.claim.resource != before.claim.resource:
        return True
    return (
        bool(set(before.on_nodes) - set(after.on_nodes))
        or after.claim.wanted < before.claim.wanted
        or after.claim.priority_class != before.claim.priority_class
        or after.asked < before.asked
        or (after.refused, after.blocked) > (before.refused, before.blocked)
        or (after.lacks_device, after.homeless) < (before.lacks_device, before.homeless)
        or after.record != before.record
    )


def counts_the_same(before: Rival | None, after: Rival | None) -> bool:
    """Whether a change of an object changes nothing for the queue. Most changes of those that wait do not."""
    if before is None or after is None:
        return False
    waits_for_several = after.claim.together or after.claim.placement.count > 1
    since = after.since if waits_for_several else before.since
    return replace(after, made=before.made, since=since) == before
