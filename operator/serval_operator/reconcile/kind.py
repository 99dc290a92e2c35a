"""What a kind of custom resource is: a value that the registry lists."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from serval_operator.api.cache_entry import Finished, never_finished
from serval_operator.api.crd import Crd
from serval_operator.api.naming import Key
from serval_operator.api.resources import Resource
from serval_operator.api.rights import Right
from serval_operator.api.rivals import Claim
from serval_operator.api.snapshots import OwnerView
from serval_operator.config import Configuration
from serval_operator.reconcile.plan import Plan, Situation


def names_none(_: OwnerView) -> Iterable[Key]:
    """The references of a kind that names no other custom resource."""
    return ()


def claims_nothing(_: OwnerView, __: Configuration) -> Claim | None:
    """The claim of a kind whose pods ask for no devices."""
    return None


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of custom resource.

    Parameters
    ----------
    resource:
        Where the API server keeps its objects.
    crd:
        Its CustomResourceDefinition.
    rights:
        Rights that it needs, beside those on the custom resource itself.
    plan:
        Pure: plans one object. It raises `serval_operator.cluster.questions.Unanswered` where it needs an
        answer first.
    applies:
        Kinds of its children, which are brought to what a plan says by server-side apply.
    optional:
        Those of them that a plan may do without: what is not in the plan is deleted.
    watches:
        Other kinds of objects that belong to it, such as pods and Jobs.
    conditions:
        Types of its conditions, in the order in which the status lists them.
    refers:
        Kinds of custom resources that an object may name. Without them nothing of this kind is planned, as
        their absence would not mean that they do not exist.
    references:
        Keys of the custom resources that an object names. It is reconciled again when one of them changes.
    finished:
        Whether nothing more happens to an object as it is stored. Then resyncs leave it out.
    claim:
        What an object asks of the queue for devices; None for nothing. Total.
    always_claims:
        Whether objects without `spec.accelerator` are asked too.
    """

    resource: Resource
    crd: Crd
    rights: tuple[Right, ...]
    plan: Callable[[Situation], Plan]
    applies: tuple[Resource, ...] = ()
    optional: tuple[Resource, ...] = ()
    watches: tuple[Resource, ...] = ()
    conditions: tuple[str, ...] = ()
    refers: tuple[Resource, ...] = ()
    references: Callable[[OwnerView], Iterable[Key]] = names_none
    finished: Finished = never_finished
    claim: Callable[[OwnerView, Configuration], Claim | None] = claims_nothing
    always_claims: bool = False

    @property
    def owns(self) -> tuple[Resource, ...]:
        """All kinds of objects that belong to it."""
        return (*self.applies, *self.watches)

    @property
    def needs(self) -> tuple[Resource, ...]:
        """All kinds of objects that have to be known before anything of it is planned."""
        return (*self.owns, *self.refers)
