"""What the scheduler's words tell: which of them end when another pod leaves."""

from __future__ import annotations

import pytest

from serval_operator.pods.scheduler_words import is_held_by_pods, lacks_device

pytestmark = pytest.mark.unit

RWOP = (
    "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by "
    "another pod"
)
# As the plugins of Kubernetes 1.36 write them.
HELD = [
    "Insufficient cpu",
    "Insufficient memory",
    "Insufficient ephemeral-storage",
    "Insufficient hugepages-2Mi",
    "Insufficient nvidia.com/gpu",
    "Too many pods",
    "node(s) didn't have free ports for the requested pod ports",
    "node(s) didn't match pod anti-affinity rules",
    "node(s) didn't satisfy existing pods anti-affinity rules",
    "node(s) didn't match pod topology spread constraints",
    "node(s) exceed max volume count",
    "node(s) had no available disk",
    RWOP,
    "cannot allocate all claims",
]
LASTING = [
    "node(s) didn't match Pod's node affinity/selector",
    "node(s) didn't match scheduler-enforced node affinity",
    "node(s) didn't match the requested node name",
    "node(s) didn't match Pod's required features",
    "node(s) didn't match pod affinity rules",
    "node(s) didn't match pod topology spread constraints (missing required label)",
    "node(s) had untolerated taint(s)",
    "node(s) had untolerated taint {node.kubernetes.io/disk-pressure: }",
    "node(s) were unschedulable",
    "node(s) had unknown conditions",
    "node(s) didn't find available persistent volumes to bind",
    "node(s) didn't match PersistentVolume's node affinity",
    "node(s) did not have enough free storage",
    "node(s) had no available volume zone",
]


def said(*reasons: str) -> str:
    """The scheduler's words for a node for each reason."""
    each = ", ".join(f"1 {reason}" for reason in sorted(reasons))
    preemption = "preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
    return f"0/{len(reasons)} nodes are available: {each}. {preemption}"


@pytest.mark.parametrize("reason", HELD)
def test_ends_when_a_pod_leaves(reason: str) -> None:
    assert is_held_by_pods(said(reason))
    assert is_held_by_pods(said("node(s) were unschedulable", reason))


@pytest.mark.parametrize("reason", [*LASTING, "waiting for scheduling gates: [x]", "words of tomorrow"])
def test_lasts_whoever_leaves(reason: str) -> None:
    assert not is_held_by_pods(said(reason))
    assert not is_held_by_pods("")


@pytest.mark.parametrize("reason", HELD + LASTING)
def test_a_device_has_a_slash_in_its_name(reason: str) -> None:
    assert lacks_device(said(reason)) == (reason == "Insufficient nvidia.com/gpu")
