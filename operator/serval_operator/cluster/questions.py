"""What a plan has to ask of the cluster before it is good, and the answers.

Planning is pure. Where it needs what the cache does not hold, it raises `Unanswered`; the controller asks the
cluster and plans again with the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from serval_operator.api.rivals import Outlook, Rivals
from serval_operator.api.snapshots import PodView
from serval_operator.cluster.capacity import Supply
from serval_operator.errors import KubeError


@dataclass(frozen=True, slots=True)
class CapacityQuestion:
    """What there is of nodes and devices.

    Parameters
    ----------
    resource_name:
        Extended resource.
    with_holds:
        Whether to count the devices in use.
    fresh:
        Whether to count them again, so that the answer is no older than the question.
    waiting:
        Pods that wait, for which autoscalers may have posted events. They do not distinguish questions.
    """

    resource_name: str
    with_holds: bool
    fresh: bool = False
    waiting: tuple[PodView, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class AccountQuestion:
    """The ServiceAccount of a name in the namespace of the custom resource."""

    name: str


@dataclass(frozen=True, slots=True)
class RivalsQuestion:
    """All objects that ask for an extended resource."""

    resource_name: str


Question = CapacityQuestion | AccountQuestion | RivalsQuestion
Account = Mapping[str, Any] | KubeError | None
"""A ServiceAccount as stored, None if there is none, or why it could not be read."""


class Unanswered(Exception):
    """A plan needs an answer first."""

    def __init__(self, question: Question) -> None:
        super().__init__(str(question))
        self.question = question


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers so far.

    Every method raises `Unanswered` for a question that was not asked yet.

    Parameters
    ----------
    outlook:
        The object's turn for devices, as far as the cache tells it.
    """

    supplies: Mapping[CapacityQuestion, Supply] = field(default_factory=dict)
    accounts: Mapping[AccountQuestion, Account] = field(default_factory=dict)
    rivals: Mapping[RivalsQuestion, Rivals] = field(default_factory=dict)
    outlook: Outlook = field(default_factory=Outlook)

    def supply(self, question: CapacityQuestion) -> Supply:
        """What there is of nodes and devices."""
        if question not in self.supplies:
            raise Unanswered(question)
        return self.supplies[question]

    def rivals_for(self, resource_name: str) -> Rivals:
        """All objects that ask for an extended resource."""
        question = RivalsQuestion(resource_name)
        if question not in self.rivals:
            raise Unanswered(question)
        return self.rivals[question]

    def account(self, name: str) -> Account:
        """The ServiceAccount of a name."""
        question = AccountQuestion(name)
        if question not in self.accounts:
            raise Unanswered(question)
        return self.accounts[question]
