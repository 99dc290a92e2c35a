"""Whether a child must be applied, or cannot be: pure comparison of what is wanted with what was seen."""

from __future__ import annotations

from enum import Enum

from serval_operator.api.conditions import Blocked
from serval_operator.api.naming import Manifest
from serval_operator.api.snapshots import ChildView, DeploymentView, Identity, OwnerView
from serval_operator.constants import ANNOTATION_APPLIED
from serval_operator.reasons import PROGRESSING, RESOURCE_CONFLICT


class Action(Enum):
    """What to do about one child."""

    KEEP = "keep"
    """It is what was applied last, and nobody touched it."""
    APPLY = "apply"
    """It differs: apply, naming its uid."""


def conflict(model: OwnerView, slot: str, seen: Identity) -> Blocked | None:
    """Why a child must not be touched; None where it is ours.

    Parameters
    ----------
    slot:
        Kind and name of the child, for the message.
    seen:
        The object that has the name.
    """
    if seen.owner_uid == model.uid:
        if isinstance(seen, DeploymentView) and not seen.selects_kind:
            text = f"{slot} was made by an unreleased build, whose selector cannot be changed; delete it"
            return Blocked(RESOURCE_CONFLICT, text)
        return None
    if seen.owner == model.key:
        return Blocked(PROGRESSING, f"{slot} of a deleted {model.key} is being removed")
    owner = seen.owner or seen.foreign_owner
    whose = f"belongs to {owner}" if owner else f"does not belong to this {model.key.kind}"
    return Blocked(RESOURCE_CONFLICT, f"{slot} exists and {whose}")


def decide(manifest: Manifest, seen: ChildView, settled: str | None) -> Action:
    """Decide about one child of ours.

    Parameters
    ----------
    settled:
        Fingerprint of the child's field ownership as our last apply left it; None when not known, as after
        a restart. Then only a child that somebody else wrote to is applied once more, so that a restart of
        the operator costs no request for all the others.
    """
    if seen.applied_hash != manifest["metadata"]["annotations"][ANNOTATION_APPLIED]:
        return Action.APPLY
    touched = seen.foreign if settled is None else seen.ownership != settled
    return Action.APPLY if touched else Action.KEEP
