"""What the operator may see: asked by reviews, one for each question."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from serval_operator.api.resources import ACCESS_REVIEWS, Resource
from serval_operator.errors import Transient
from serval_operator.runtime.access_review import (
    LEAST_SECONDS,
    REVIEW_SECONDS,
    Access,
    AccessReviewer,
    review,
)
from serval_operator.runtime.kube_api import Object
from support.clock import FakeClock
from support.fakes import Call, FakeKubeApi

pytestmark = pytest.mark.unit

Rule = tuple[str, str, str, str]
NODES_LIST: Rule = ("list", "", "nodes", "")
NODES_WATCH: Rule = ("watch", "", "nodes", "")
PODS: Rule = ("list", "", "pods", "")
STATUS: Rule = ("get", "", "configmaps", "kube-system/cluster-autoscaler-status")
CLAIMS: Rule = ("list", "karpenter.sh", "nodeclaims", "")
CLASSES: Rule = ("list", "resource.k8s.io", "deviceclasses", "")
PRIORITIES: Rule = ("list", "scheduling.k8s.io", "priorityclasses", "")


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
        self.on_call(Call("create", resource, "", "", dict(manifest)))
        return {"status": {"allowed": rule in self.allowed}}


@pytest.mark.parametrize(
    ("allowed", "access"),
    [
        ((), Access()),
        ((NODES_LIST,), Access()),
        ((NODES_LIST, NODES_WATCH), Access(nodes=True)),
        ((PODS, STATUS), Access(pods=True, autoscaler=True)),
        ((CLAIMS, CLASSES), Access(node_claims=True, device_classes=True)),
        ((PRIORITIES,), Access(priority_classes=True)),
    ],
)
async def test_each_answer_counts(allowed: tuple[Rule, ...], access: Access) -> None:
    api = Authorizer(*allowed)
    assert await review(api) == access
    assert sorted(api.asked) == sorted([NODES_LIST, NODES_WATCH, PODS, STATUS, CLAIMS, CLASSES, PRIORITIES])


async def test_an_odd_answer_is_no() -> None:
    class Odd(Authorizer):
        async def create(self, resource: Resource, manifest: Mapping[str, Any]) -> Object:  # noqa: ARG002
            return {"status": {"allowed": "yes"}}

    assert await review(Odd()) == Access()


class Bench:
    """A reviewer on a clock of its own."""

    def __init__(self) -> None:
        self.api, self.clock = Authorizer(), FakeClock()
        self.found: list[Access] = []
        self.reviewer = AccessReviewer(self.api, Access(), self.found.append, sleep=self.clock.sleep)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.reviewer.run())
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_rights_are_asked_for_again_every_few_minutes() -> None:
    bench = Bench()
    async with bench.running():
        await bench.clock.advance(3600)
        assert 9 * 7 <= len(bench.api.asked) <= 14 * 7
        assert bench.found == []
        bench.api.allowed = (NODES_LIST, NODES_WATCH)
        await bench.clock.advance(1.2 * REVIEW_SECONDS)
        assert bench.found == [Access(nodes=True)]
        assert bench.reviewer.access == Access(nodes=True)
        bench.api.allowed = ()
        await bench.clock.advance(1.2 * REVIEW_SECONDS)
        assert bench.reviewer.access == Access()


async def test_a_refusal_lets_it_ask_soon_but_not_often() -> None:
    bench = Bench()
    async with bench.running():
        bench.api.allowed = (PODS,)
        bench.reviewer.ask_soon()
        await bench.clock.advance(LEAST_SECONDS)
        assert bench.reviewer.access == Access(pods=True)
        for _ in range(100):
            bench.reviewer.ask_soon()
            await bench.clock.advance(0.1)
        assert len(bench.api.asked) <= 2 * 7


async def test_what_was_found_counts_while_nobody_answers() -> None:
    bench = Bench()
    bench.reviewer.access = Access(pods=True)

    def fail(_: object) -> None:
        raise Transient(503, "", "away")

    bench.api.on_call = fail
    async with bench.running():
        await bench.clock.advance(1.2 * REVIEW_SECONDS)
        assert bench.reviewer.access == Access(pods=True)
        bench.api.on_call = lambda _: None
        await bench.clock.advance(2 * LEAST_SECONDS)
        assert bench.reviewer.access == Access()
