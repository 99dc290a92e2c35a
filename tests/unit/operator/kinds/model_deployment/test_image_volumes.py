"""Whether nodes mount a model's image."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from serval_operator.api.blocks.source import ConfigMapKey
from serval_operator.api.nodes import NodeView, parse_node
from serval_operator.api.placement import Placement
from serval_operator.api.snapshots import parse_owner, parse_revision
from serval_operator.workload.image_volumes import mounts_model
from serval_operator.workload.manifests.deployment import pod_template
from serval_operator.workload.manifests.revision import facts_of, revision_record
from support import gen
from unit.operator.configuration import resolved

pytestmark = pytest.mark.unit

IMAGE = resolved(model={"uri": "oci://registry.example/vision:3"})
ABLE = ("v1.36.3", "containerd://2.4.2")
OLD_KUBELET = ("v1.34.4", "containerd://2.4.2")
OLD_CONTAINERD = ("v1.36.3", "containerd://1.7.28")


def node(versions: tuple[str, str], *, taint: str = "", **labels: str) -> NodeView:
    kubelet, runtime = versions
    taints = [{"key": taint, "effect": "NoSchedule"}] if taint else []
    info = {"kubeletVersion": kubelet, "containerRuntimeVersion": runtime}
    return parse_node(
        {
            "metadata": {"name": "node", "labels": labels},
            "spec": {"taints": taints},
            "status": {"nodeInfo": info},
        }
    )


@pytest.mark.parametrize(
    ("nodes", "mounted"),
    [
        ([], False),
        ([node(ABLE)], True),
        ([node(ABLE), node(ABLE)], True),
        ([node(ABLE), node(OLD_KUBELET)], False),
        ([node(ABLE), node(OLD_CONTAINERD)], False),
        ([node(ABLE), node(("v1.36.3", "cri-o://1.36.0"))], False),
        ([node(ABLE), node(OLD_KUBELET, taint="team")], True),
    ],
)
def test_every_node_that_may_take_the_pod_must_be_able(nodes: list[NodeView], mounted: bool) -> None:
    assert mounts_model(IMAGE, None, nodes) is mounted


def test_an_image_behind_an_authority_of_the_users_own_is_fetched() -> None:
    """The nodes would not trust it."""
    own = replace(IMAGE, model=replace(IMAGE.model, ca_config_map_ref=ConfigMapKey(name="ca")))
    assert not mounts_model(own, None, [node(ABLE)])


def test_nodes_that_the_pod_does_not_select_do_not_count() -> None:
    picky = replace(IMAGE, placement=Placement(node_selector={"pool": "new"}))
    nodes = [node(ABLE, pool="new"), node(OLD_KUBELET, pool="old")]
    assert mounts_model(picky, None, nodes)
    assert not mounts_model(picky, None, nodes[1:])


def test_nodes_of_another_architecture_do_not_count() -> None:
    built = replace(IMAGE, placement=Placement(architectures=("amd64",)))
    nodes = [
        node(ABLE, **{"kubernetes.io/arch": "amd64"}),
        node(OLD_KUBELET, **{"kubernetes.io/arch": "arm64"}),
    ]
    assert mounts_model(built, None, nodes)
    assert not mounts_model(IMAGE, None, nodes)


@pytest.mark.parametrize("mounted", [True, False])
def test_what_a_revision_does_stays(mounted: bool) -> None:
    model = parse_owner(gen.model())
    template: dict[str, Any] = pod_template(model, replace(IMAGE, image_volume=mounted), "key")
    record = parse_revision(
        revision_record(model, key="key", template=template, facts=facts_of(IMAGE), number=1)
    )
    for nodes in ([], [node(ABLE)], [node(OLD_KUBELET)]):
        assert mounts_model(IMAGE, record, nodes) is mounted
