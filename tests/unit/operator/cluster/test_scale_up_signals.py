"""What autoscalers publish, read for one resource."""

from __future__ import annotations

from typing import Any

import pytest

from serval_operator.cluster.scale_up_signals import look_around

pytestmark = pytest.mark.unit

GPU = "nvidia.com/gpu"
STATUS = """
time: 2026-01-01 10:00:00
autoscalerStatus: Running
nodeGroups:
- name: aks-gpu-1-vmss
  health: {{nodeCounts: {{registered: {{total: {total}}}}}, minSize: 0, maxSize: {most}}}
  scaleUp: {{status: {state}, backoffInfo: {{errorCode: QuotaExceeded, errorMessage: no cores left}}}}
"""


def status(total: int = 0, most: int = 3, state: str = "NoActivity") -> str:
    return STATUS.format(total=total, most=most, state=state)


def claim(
    *,
    initialized: bool = False,
    deleting: bool = False,
    launched: tuple[str, str, str] = ("True", "Launched", ""),
    **resources: str,
) -> dict[str, Any]:
    meta = {"name": "gpu-x7k", **({"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleting else {})}
    requests = {name.replace("__", "/").replace("_", "."): value for name, value in resources.items()}
    return {
        "metadata": meta,
        "spec": {"resources": {"requests": requests}},
        "status": {
            "conditions": [
                {"type": "Initialized", "status": str(initialized)},
                dict(zip(("type", "status", "reason", "message"), ("Launched", *launched), strict=True)),
            ]
        },
    }


GPU_CLAIM = {"nvidia_com__gpu": "1", "cpu": "4"}


@pytest.mark.parametrize(
    ("text", "possible"),
    [
        (status(), "the cluster autoscaler may add a node to aks-gpu-1-vmss, which has none"),
        (status(total=1), ""),
        (status(most=0), ""),
        (status(state="Backoff"), ""),
        ("", ""),
        ("Cluster-autoscaler status at 2023:\n  NodeGroups: [", ""),
        ("just words", ""),
        ("nodeGroups: 7", ""),
        ("nodeGroups: [{name: 3}, 4, {}]", ""),
    ],
)
def test_an_empty_group_may_get_a_node(text: str, possible: str) -> None:
    assert look_around(None, (), text).growth(GPU).possible == possible


def test_a_back_off_explains_a_refusal_and_is_silent_without_one() -> None:
    around = look_around(None, (), status(state="Backoff"))
    told = "pod didn't trigger scale-up: 1 in backoff after failed scale-up"
    why = "node group aks-gpu-1-vmss is in back-off: QuotaExceeded: no cores left"
    assert around.growth(GPU, refused=told).refused == f"{told} ({why})"
    assert around.growth(GPU).refused == ""


@pytest.mark.parametrize(
    ("claims", "coming"),
    [
        ([claim(**GPU_CLAIM)], f"node claim gpu-x7k of Karpenter brings a node with {GPU}"),
        ([claim(initialized=True, **GPU_CLAIM)], ""),
        ([claim(deleting=True, **GPU_CLAIM)], ""),
        ([claim(cpu="4")], ""),
        ([{}], ""),
        ([], ""),
    ],
)
def test_a_node_claim_brings_what_it_asks_for(claims: list[dict[str, Any]], coming: str) -> None:
    assert look_around(claims, (), "").growth(GPU).coming == coming


QUOTA = "creating instance, no quota left"
FAILS = "node claim gpu-x7k of Karpenter cannot be launched"


@pytest.mark.parametrize(
    ("launched", "refused"),
    [
        (
            ("False", "LaunchFailed", QUOTA),
            f"{FAILS}: LaunchFailed: {QUOTA}",
        ),
        (
            ("Unknown", "LaunchFailed", QUOTA),
            f"{FAILS}: LaunchFailed: {QUOTA}",
        ),
        (
            ("Unknown", "NodeClassNotReady", ""),
            f"{FAILS}: NodeClassNotReady",
        ),
        (("Unknown", "AwaitingReconciliation", "object is awaiting reconciliation"), ""),
        (("True", "Launched", ""), ""),
    ],
)
def test_a_node_claim_that_cannot_be_launched_is_a_refusal(
    launched: tuple[str, str, str], refused: str
) -> None:
    around = look_around([claim(launched=launched, **GPU_CLAIM)], (), "")
    growth = around.growth(GPU, coming="on node claim gpu-x7k")
    assert growth.refused == refused
    assert bool(growth.coming) is not bool(refused)


def test_another_node_claim_may_still_bring_one() -> None:
    claims = [claim(launched=("False", "LaunchFailed", QUOTA), **GPU_CLAIM), claim(**GPU_CLAIM)]
    growth = look_around(claims, (), "").growth(GPU)
    assert growth.coming == f"node claim gpu-x7k of Karpenter brings a node with {GPU}"
    assert growth.refused == ""


@pytest.mark.parametrize(
    ("coming", "refused"),
    [
        ("pod triggered scale-up: aks-t4", ""),
        ("", "max node group size reached"),
        ("on node claim other", ""),
    ],
)
def test_a_node_claim_of_another_pool_says_nothing_of_a_pod(coming: str, refused: str) -> None:
    around = look_around([claim(launched=("False", "LaunchFailed", QUOTA), **GPU_CLAIM)], (), "")
    growth = around.growth(GPU, coming=coming, refused=refused)
    assert (growth.coming, growth.refused) == (coming, refused)


def test_what_a_claim_was_given_counts_too() -> None:
    given = claim()
    given["status"]["capacity"] = {GPU: "8"}
    assert look_around([given], (), "").growth(GPU).coming


def test_karpenter_makes_nodes_for_gpus_and_not_for_boards() -> None:
    around = look_around([], (), "")
    assert around.growth(GPU).possible == "Karpenter may add a node for it"
    assert around.growth("amd.com/xilinx_u250").possible == ""
    assert look_around(None, (), "").growth(GPU).possible == ""


def test_the_pods_own_event_comes_first() -> None:
    around = look_around([claim(**GPU_CLAIM)], (), "")
    assert around.growth(GPU, coming="pod triggered scale-up").coming == "pod triggered scale-up"


def test_device_classes_serve_resources() -> None:
    classes = [
        {"metadata": {"name": "gpu.example.com"}, "spec": {"extendedResourceName": "example.com/gpu"}},
        {"metadata": {"name": "plain"}, "spec": {}},
    ]
    assert look_around(None, classes, "").claimable == {
        "deviceclass.resource.kubernetes.io/gpu.example.com",
        "example.com/gpu",
        "deviceclass.resource.kubernetes.io/plain",
    }
