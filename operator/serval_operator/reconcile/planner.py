"""Plans, and asks the cluster for what a plan needs to know first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from serval_operator.api.resources import SERVICE_ACCOUNTS
from serval_operator.api.rivals import Rivals
from serval_operator.cluster.capacity import Supply
from serval_operator.cluster.capacity_reader import ClusterSupplier
from serval_operator.cluster.questions import (
    Account,
    AccountQuestion,
    Answers,
    CapacityQuestion,
    RivalsQuestion,
    Unanswered,
)
from serval_operator.errors import KubeError
from serval_operator.reconcile.contest import Contest
from serval_operator.reconcile.plan import Plan, Situation
from serval_operator.runtime.kube_api import KubeApi

MOST_QUESTIONS = 8
"""A plan asks a few questions. One that never stops asking is a fault of its kind."""


class Planner:
    """Answers the questions of a pure plan, one after the other, until it has none."""

    def __init__(
        self,
        plan: Callable[[Situation], Plan],
        api: KubeApi,
        supplier: ClusterSupplier,
        contest: Contest,
    ) -> None:
        self._plan = plan
        self._api = api
        self._supplier = supplier
        self._contest = contest

    async def plan(self, situation: Situation) -> Plan:
        """Plan from a situation."""
        supplies: dict[CapacityQuestion, Supply] = {}
        accounts: dict[AccountQuestion, Account] = {}
        rivals: dict[RivalsQuestion, Rivals] = {}
        outlook = self._contest.outlook(situation.observed.model.key)
        answered = replace(situation, answers=Answers(supplies, accounts, rivals, outlook))
        for _ in range(MOST_QUESTIONS):
            try:
                return self._plan(answered)
            except Unanswered as needs:
                if isinstance(needs.question, RivalsQuestion):
                    rivals[needs.question] = await self._contest.rivals(needs.question.resource_name)
                else:
                    namespace = situation.observed.model.namespace
                    await self._answer(needs.question, namespace, supplies, accounts)
        return self._plan(answered)

    async def _answer(
        self,
        question: CapacityQuestion | AccountQuestion,
        namespace: str,
        supplies: dict[CapacityQuestion, Supply],
        accounts: dict[AccountQuestion, Account],
    ) -> None:
        if isinstance(question, CapacityQuestion):
            supplies[question] = await self._supplier.supply(
                question.resource_name,
                with_holds=question.with_holds,
                waiting=question.waiting,
                fresh=question.fresh,
            )
            return
        try:
            accounts[question] = await self._api.get(SERVICE_ACCOUNTS, namespace, question.name)
        except KubeError as error:
            accounts[question] = error
