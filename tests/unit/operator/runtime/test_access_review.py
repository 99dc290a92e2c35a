"""What the operator may see: asked by reviews, one for each question."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from serval_operator.api.resources import ACCESS_REVIEWS, Resource
from serval_operator.runtime.access_review import Access, review
from serval_operator.runtime.kube_api import Object
from support.fakes import FakeKubeApi

pytestmark = pytest.mark.unit

Rule = tuple[str, str, str, str]
NODES_LIST: Rule = ("list", "", "nodes", "")
NODES_WATCH: Rule = ("watch", "", "nodes", "")
PODS: Rule = ("list", "", "pods", "")
STATUS: Rule = ("get", "", "configmaps", "kube-system/cluster-autoscaler-status")
CLAIMS: Rule = ("list", "karpenter.sh", "nodeclaims", "")
CLASSES: Rule = ("list", "resource.k8s.io", "deviceclasses", "")


class Authorizer(FakeKubeApi):
    """Allows what it was given."""

    def __init__(self, *allowed: Rule) -> None:
        super().__init__()
        self.allowed = allowed
        self.asked: list[Rule] = []

    async def create(self, resource: Resource, manifest: Mapping[str, Any]) -> Object:
        assert resource is ACCESS_REVIEWS
        assert manifest["kind"] == "SelfSubjectAccessReview"
        about = manifest["spec"]["resourceAttributes"]
        place = "/".join(about[field] for field in ("namespace", "name") if field in about)
        rule = (about["verb"], about["group"], about["resource"], place)
        self.asked.append(rule)
        return {"status": {"allowed": rule in self.allowed}}


@pytest.mark.parametrize(
    ("allowed", "access"),
    [
        ((), Access()),
        ((NODES_LIST,), Access()),
        ((NODES_LIST, NODES_WATCH), Access(nodes=True)),
        ((PODS, STATUS), Access(pods=True, autoscaler=True)),
        ((CLAIMS, CLASSES), Access(node_claims=True, device_classes=True)),
    ],
)
async def test_each_answer_counts(allowed: tuple[Rule, ...], access: Access) -> None:
    api = Authorizer(*allowed)
    assert await review(api) == access
    assert sorted(api.asked) == sorted([NODES_LIST, NODES_WATCH, PODS, STATUS, CLAIMS, CLASSES])


async def test_an_odd_answer_is_no() -> None:
    class Odd(Authorizer):
        async def create(self, resource: Resource, manifest: Mapping[str, Any]) -> Object:  # noqa: ARG002
            return {"status": {"allowed": "yes"}}

    assert await review(Odd()) == Access()
