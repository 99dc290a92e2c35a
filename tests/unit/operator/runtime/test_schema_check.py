"""When the cluster's schemas are compared with our own, and what follows."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from serval_operator.api.naming import Key
from serval_operator.api.resources import MODEL_DEPLOYMENTS
from serval_operator.errors import Forbidden, KubeError, Transient
from serval_operator.kinds.model_deployment.crd import MODEL_DEPLOYMENT_CRD
from serval_operator.runtime.schema_check import CHECK_SECONDS, LONGEST_PAUSE, SchemaCheck
from support.clock import FakeClock
from support.watched import availability

pytestmark = pytest.mark.unit

KEY = Key("ModelDeployment", "vision", "resnet")
OURS = MODEL_DEPLOYMENT_CRD.schema()
GVK = {"group": "serval.dev", "version": "v1alpha1", "kind": "ModelDeployment"}


def published(**extra: Any) -> dict[str, Any]:
    """Our schema as the API server publishes it, without the disruption block if asked."""
    schema = {**copy.deepcopy(OURS), "x-kubernetes-group-version-kind": [GVK]}
    if extra.get("older"):
        del schema["properties"]["spec"]["properties"]["disruption"]
    return {"dev.serval.v1alpha1.ModelDeployment": schema}


class Bench:
    """A check on a cluster with everything listed."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.answer: dict[str, Any] | KubeError = published()
        self.asked = 0
        self.availability = availability()
        for source in self.availability.sources:
            self.availability.listed(source)
        self.check = SchemaCheck(
            self, {MODEL_DEPLOYMENTS: OURS}, self.availability, sleep=self.clock.sleep, clock=self.clock
        )

    async def schemas(self, group: str, version: str) -> Mapping[str, Any]:
        assert (group, version) == ("serval.dev", "v1alpha1")
        self.asked += 1
        if isinstance(self.answer, KubeError):
            raise self.answer
        return self.answer

    def served(self) -> bool:
        return self.availability.serves(KEY)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.check.run())
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.mark.parametrize(
    ("answer", "served"),
    [
        (published(), True),
        (published(older=True), False),
        ({}, True),
        (Forbidden(403, "Forbidden", "no"), True),
        (KubeError(404, "NotFound", "no"), True),
        (Transient(503, "", "away"), True),
    ],
)
async def test_a_kind_is_off_only_if_its_schema_lacks_something(
    answer: dict[str, Any] | KubeError, *, served: bool
) -> None:
    bench = Bench()
    bench.answer = answer
    await bench.check.check(MODEL_DEPLOYMENTS)
    assert bench.served() is served


async def test_namespaces_that_come_on_together_ask_once() -> None:
    bench = Bench()
    await asyncio.gather(*(bench.check.check(MODEL_DEPLOYMENTS) for _ in range(5)))
    assert bench.asked == 1


async def test_an_upgrade_is_noticed_and_a_failure_changes_nothing() -> None:
    bench = Bench()
    bench.answer = published(older=True)
    await bench.check.check(MODEL_DEPLOYMENTS)
    async with bench.running():
        bench.answer = Transient(503, "", "away")
        await bench.clock.advance(300)
        assert not bench.served(), "what cannot be read tells nothing"
        bench.answer = published()
        await bench.clock.advance(LONGEST_PAUSE)
        assert bench.served()
        bench.answer = published(older=True)
        await bench.clock.advance(CHECK_SECONDS)
        assert not bench.served(), "a downgrade is noticed too"


async def test_at_rest_it_asks_every_few_minutes_only() -> None:
    bench = Bench()
    await bench.check.check(MODEL_DEPLOYMENTS)
    async with bench.running():
        await bench.clock.advance(10 * CHECK_SECONDS)
        assert bench.asked <= 11


async def test_a_schema_that_is_not_published_yet_is_looked_for_soon() -> None:
    bench = Bench()
    bench.answer = {}
    await bench.check.check(MODEL_DEPLOYMENTS)
    async with bench.running():
        bench.answer = published(older=True)
        await bench.clock.advance(3)
        assert not bench.served()


async def test_a_schema_that_never_comes_does_not_hold_up_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    monkeypatch.setattr("serval_operator.runtime.schema_check.LIMIT_SECONDS", 0.01)

    async def never(*_: str) -> Mapping[str, Any]:
        await asyncio.Event().wait()
        return {}

    monkeypatch.setattr(bench, "schemas", never)
    async with asyncio.timeout(10):
        await bench.check.check(MODEL_DEPLOYMENTS)
    assert bench.served()
