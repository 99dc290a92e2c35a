"""What autoscalers publish of nodes to come, read for one resource. Pure: raw objects in, words out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import yaml

from serval_operator.api.quantities import extended
from serval_operator.api.text import scrub
from serval_operator.api.unstructured import condition, mapping, mappings, whole
from serval_operator.cluster.capacity import Growth

CLASS_RESOURCE: Final = "deviceclass.resource.kubernetes.io/"
"""Begins the extended resource that Kubernetes gives to each DeviceClass; the class's name follows."""
_PROVISIONED: Final = (
    "nvidia.com/gpu",
    "amd.com/gpu",
    "habana.ai/gaudi",
    "aws.amazon.com/neuron",
    "aws.amazon.com/neuroncore",
)
"""Devices for which Karpenter's providers make nodes; they know of no FPGA."""
_KARPENTER: Final = "Karpenter may add a node for it"
_BACKOFF: Final = "Backoff"
_LAUNCH_FAILURES: Final = ("LaunchFailed", "NodeClassNotReady")
"""Reasons of the condition `Launched` of a node claim that Karpenter tries to launch again."""


class FailedClaim(NamedTuple):
    """A node claim that cannot be launched, and what to say of it."""

    name: str
    words: str


@dataclass(frozen=True, slots=True)
class Around:
    """What autoscalers and device classes say of no pod in particular.

    Parameters
    ----------
    coming:
        By resource: the node claim that brings it.
    failing:
        By resource: the node claim that should bring it and cannot be launched, and why.
    groups:
        Node groups of the cluster autoscaler that have no node and may get one: no one knows what they offer.
    backoff:
        What keeps the cluster autoscaler from adding nodes to a group; empty for nothing.
    karpenter:
        Whether Karpenter is there.
    claimable:
        Extended resources that a DeviceClass serves.
    autoscaled:
        Whether an autoscaler works in the cluster.
    """

    coming: Mapping[str, str]
    failing: Mapping[str, FailedClaim] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    backoff: str = ""
    karpenter: bool = False
    claimable: frozenset[str] = frozenset()
    autoscaled: bool = False

    def growth(self, resource_name: str, *, coming: str = "", refused: str = "") -> Growth:
        """What is known for a resource.

        Parameters
        ----------
        coming, refused:
            What an autoscaler said of a pod that waits; empty for nothing.
        """
        more = f" ({self.backoff})" if refused and self.backoff else ""
        failed = self.failing.get(resource_name)
        on_its_way = self.coming.get(resource_name, "")
        if failed and not on_its_way and (failed.name in coming or not (coming or refused)):
            # It was nominated for this pod before it failed. One of another pool says nothing about the pod.
            return Growth(
                refused=failed.words, possible=self._possible(resource_name), autoscaled=self.autoscaled
            )
        return Growth(
            coming=coming or on_its_way,
            refused=refused + more,
            possible=self._possible(resource_name),
            autoscaled=self.autoscaled or bool(coming or refused),
        )

    def _possible(self, resource_name: str) -> str:
        if self.karpenter and resource_name in _PROVISIONED:
            return _KARPENTER
        if self.groups:
            return f"the cluster autoscaler may add a node to {self.groups[0]}, which has none"
        return ""


def look_around(
    claims: Sequence[Mapping[str, Any]] | None, classes: Iterable[Mapping[str, Any]], status: str
) -> Around:
    """Read what was found.

    Parameters
    ----------
    claims:
        Karpenter's NodeClaims; None where Karpenter is not there.
    classes:
        DeviceClasses.
    status:
        What the cluster autoscaler publishes: YAML, as since its release 1.30; empty for nothing.
    """
    coming: dict[str, str] = {}
    failing: dict[str, FailedClaim] = {}
    for claim in claims or ():
        name = str(mapping(claim, "metadata").get("name", ""))
        words = f"node claim {name} of Karpenter"
        failure = _launch_failure(claim)
        for resource in _brings(claim):
            if failure:
                failing.setdefault(resource, FailedClaim(name, f"{words} cannot be launched: {failure}"))
            else:
                coming.setdefault(resource, f"{words} brings a node with {resource}")
    groups = [group for group in _groups(status) if group.get("name")]
    return Around(
        coming=coming,
        failing=failing,
        groups=tuple(sorted(str(one["name"]) for one in groups if _is_empty(one) and not _back_off(one))),
        backoff=next((text for text in map(_back_off, groups) if text), ""),
        karpenter=claims is not None,
        autoscaled=claims is not None or bool(status),
        claimable=frozenset(name for one in classes for name in _served(one)),
    )


def _brings(claim: Mapping[str, Any]) -> Iterable[str]:
    """Extended resources that a node claim will bring, and has not brought yet."""
    status = mapping(claim, "status")
    done = condition(status, "Initialized").get("status") == "True"
    if done or mapping(claim, "metadata").get("deletionTimestamp"):
        return ()
    asked = mapping(mapping(mapping(claim, "spec"), "resources"), "requests")
    found = {**extended(asked), **extended(mapping(status, "capacity"))}
    return [name for name, count in found.items() if count]


def _launch_failure(claim: Mapping[str, Any]) -> str:
    """Why the cloud does not launch the node of a claim, such as a quota; empty if nothing is wrong.

    Karpenter writes False, or Unknown with a reason while it tries again.
    """
    launched = condition(mapping(claim, "status"), "Launched")
    status, reason = launched.get("status"), str(launched.get("reason", ""))
    if status == "False" or (status == "Unknown" and reason in _LAUNCH_FAILURES):
        return scrub(": ".join(str(one) for one in (reason, launched.get("message")) if one))
    return ""


def _served(device_class: Mapping[str, Any]) -> Iterable[str]:
    name = mapping(device_class, "metadata").get("name", "")
    given = mapping(device_class, "spec").get("extendedResourceName")
    return [f"{CLASS_RESOURCE}{name}", *([str(given)] if given else [])]


def _groups(status: str) -> Sequence[Mapping[str, Any]]:
    """Node groups of the cluster autoscaler; none where its text is no YAML, as of releases before 1.30."""
    try:
        found = yaml.safe_load(status)
    except yaml.YAMLError:
        return ()
    return mappings(found, "nodeGroups") if isinstance(found, Mapping) else ()


def _is_empty(group: Mapping[str, Any]) -> bool:
    health = mapping(group, "health")
    registered = mapping(mapping(health, "nodeCounts"), "registered")
    return whole(registered.get("total")) == 0 and whole(health.get("maxSize")) > 0


def _back_off(group: Mapping[str, Any]) -> str:
    """Why the autoscaler leaves a group alone for a while; empty if it does not."""
    scale_up = mapping(group, "scaleUp")
    if scale_up.get("status") != _BACKOFF:
        return ""
    why = mapping(scale_up, "backoffInfo")
    words = ": ".join(str(why[field]) for field in ("errorCode", "errorMessage") if why.get(field))
    return scrub(f"node group {group.get('name')} is in back-off{': ' if words else ''}{words}")
