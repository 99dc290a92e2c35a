"""A plan that needs answers gets them, one after another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from serval_operator.api.naming import Key
from serval_operator.api.resources import SERVICE_ACCOUNTS
from serval_operator.api.rivals import Outlook, Rivals
from serval_operator.api.snapshots import PodView
from serval_operator.cluster.capacity import Supply
from serval_operator.cluster.questions import CapacityQuestion, Unanswered
from serval_operator.errors import Transient
from serval_operator.reconcile.plan import Plan, Situation
from serval_operator.reconcile.planner import MOST_QUESTIONS, Planner
from support.fakes import FakeKubeApi
from unit.operator.configuration import CONFIGURATION
from unit.operator.workload.observing import observed

pytestmark = pytest.mark.unit

BOARD = CapacityQuestion("example.com/board", with_holds=True)
FRESH = replace(BOARD, fresh=True)


class Cluster:
    """What a planner asks."""

    def __init__(self) -> None:
        self.api = FakeKubeApi()
        self.asked: list[tuple[str, bool]] = []
        self.plans = 0

    async def supply(
        self, resource_name: str, *, with_holds: bool, waiting: Sequence[PodView] = (), fresh: bool = False
    ) -> Supply:
        assert with_holds
        assert not waiting
        self.asked.append((resource_name, fresh))
        return Supply(nodes=())

    def outlook(self, _: Key) -> Outlook:
        return Outlook(contended=True)

    async def rivals(self, resource_name: str) -> Rivals:
        self.asked.append((resource_name, False))
        return Rivals()

    async def plan(self, plan: Any) -> Plan:
        planner = Planner(plan, self.api, self, self)
        return await planner.plan(Situation(observed=observed(), configuration=CONFIGURATION))


def judge(*_: object) -> Any:
    raise AssertionError("nothing is judged here")


async def test_each_question_is_asked_once() -> None:
    cluster = Cluster()

    def plan(situation: Situation) -> Plan:
        cluster.plans += 1
        for question in (BOARD, FRESH, BOARD):
            assert situation.answers.supply(question) == Supply(nodes=())
        assert situation.answers.account("fetcher") is None
        return Plan(judge)

    await cluster.plan(plan)
    assert cluster.asked == [("example.com/board", False), ("example.com/board", True)]
    assert [(call.verb, call.resource) for call in cluster.api.calls] == [("get", SERVICE_ACCOUNTS)]
    assert cluster.plans == 4


async def test_an_account_that_cannot_be_read_is_an_answer() -> None:
    cluster = Cluster()
    error = Transient(503, "", "busy")

    def fail(_: object) -> None:
        raise error

    cluster.api.on_call = fail
    found = []

    def plan(situation: Situation) -> Plan:
        found.append(situation.answers.account("fetcher"))
        return Plan(judge)

    await cluster.plan(plan)
    assert found == [error]


async def test_a_plan_that_never_stops_asking_is_a_fault() -> None:
    cluster = Cluster()

    def plan(situation: Situation) -> Plan:
        cluster.plans += 1
        situation.answers.supply(replace(BOARD, resource_name=f"example.com/board-{cluster.plans}"))
        return Plan(judge)

    with pytest.raises(Unanswered):
        await cluster.plan(plan)
    assert len(cluster.asked) == MOST_QUESTIONS
