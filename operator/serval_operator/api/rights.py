"""Rights that the operator needs, as data.

The roles of the chart and the tables of docs/install.md are generated from them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from serval_operator.api.resources import Resource

APPLIED: Final = ("get", "list", "watch", "create", "patch")
"""Verbs for objects that are applied. The applier reads an object once before its first apply, and
server-side apply needs `create` and `patch`. The garbage collector deletes them through owner references."""


@dataclass(frozen=True, slots=True)
class Right:
    """A right of the operator: what it may do with objects of one resource.

    Parameters
    ----------
    verbs:
        Verbs of the API, such as ``list``.
    why:
        The reason, in one sentence.
    names:
        Names of the only objects that it is for; empty for all objects.
    subresource:
        The subresource that it is for, such as ``status``; empty for the objects themselves.
    """

    resource: Resource
    verbs: tuple[str, ...]
    why: str
    names: tuple[str, ...] = ()
    subresource: str = ""

    @property
    def target(self) -> str:
        """Resource and subresource as the rule of a role writes them, such as ``pods/status``."""
        return "/".join(part for part in (self.resource.plural, self.subresource) if part)


def custom_resource_rights(resource: Resource) -> tuple[Right, ...]:
    """Return the rights on the custom resources of a kind. Every kind has the same ones."""
    return (
        Right(resource, ("list", "watch"), f"The operator reconciles {resource.kind}s."),
        Right(resource, ("patch",), "The operator writes the status.", subresource="status"),
        Right(
            resource,
            ("update",),
            "Some clusters, such as OpenShift, require it of clients that set owner references which block "
            "deletion.",
            subresource="finalizers",
        ),
    )


def applied_rights(
    owns: Sequence[Resource], optional: Sequence[Resource], reasons: Mapping[Resource, str]
) -> tuple[Right, ...]:
    """Return the rights on the children that a kind applies.

    Parameters
    ----------
    owns:
        Resources of all children that are applied.
    optional:
        Those that a spec may ask for and later drop, so that the operator deletes them.
    reasons:
        The reason for each resource.

    Raises
    ------
    ValueError
        The resources and the reasons do not match.
    """
    if set(reasons) != set(owns):
        named = sorted(resource.plural for resource in set(reasons) ^ set(owns))
        raise ValueError(f"resources that are owned and reasons do not match: {', '.join(named)}")
    return tuple(
        Right(resource, (*APPLIED, "delete") if resource in optional else APPLIED, reasons[resource])
        for resource in owns
    )
