"""Whether a child must be applied: pure comparison of what is wanted with what was seen."""

from __future__ import annotations

from enum import Enum

from serval_operator.api.naming import Manifest
from serval_operator.api.views import ChildView, ModelView
from serval_operator.constants import ANNOTATION_APPLIED


class Action(Enum):
    """What to do about one child."""

    KEEP = "keep"
    """It is what was applied last, and nobody touched it."""
    APPLY = "apply"
    """It is ours and differs: apply, naming its uid."""
    CREATE = "create"
    """It was not seen: look for a stranger of that name first, then apply."""
    CONFLICT = "conflict"
    """It belongs to somebody else: leave it alone."""


def decide(model: ModelView, manifest: Manifest, seen: ChildView | None, settled: str | None) -> Action:
    """Decide about one child.

    Parameters
    ----------
    settled:
        Fingerprint of the child's field ownership as our last apply left it; None when not known, as after
        a restart. Then only a child that somebody else wrote to is applied once more, so that a restart of
        the operator costs no request for all the others.
    """
    if seen is None:
        return Action.CREATE
    if seen.owner_uid != model.uid:
        return Action.CONFLICT
    if seen.applied_hash != manifest["metadata"]["annotations"][ANNOTATION_APPLIED]:
        return Action.APPLY
    touched = seen.foreign if settled is None else seen.ownership != settled
    return Action.APPLY if touched else Action.KEEP
