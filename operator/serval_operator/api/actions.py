"""What a plan asks of the API server, as data: planning decides it, and the controller carries it out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serval_operator.api.naming import Manifest
from serval_operator.api.resources import Resource
from serval_operator.api.snapshots import Identity


@dataclass(frozen=True, slots=True)
class Creation:
    """An object that is created once and never applied again, such as a Job or a record of a revision.

    One that exists already and belongs to the custom resource is as good as a new one.

    Parameters
    ----------
    required:
        Whether a refusal blocks the custom resource. Otherwise it is only logged.
    once_for:
        uids of the objects for which it has to exist. Once it was created, or found, for all of them, it is
        not sent again. None: it is sent each time.
    """

    resource: Resource
    manifest: Manifest
    required: bool = True
    once_for: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Patch:
    """A few fields that are merged into an object of ours; one that was replaced meanwhile is left alone.

    Parameters
    ----------
    fields:
        The fields, without the object's identity.
    """

    resource: Resource
    target: Identity
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Deletion:
    """An object of ours that is deleted; one that was replaced meanwhile is left alone.

    Parameters
    ----------
    after:
        Kind and name of an object that has to exist first, by a creation of the same plan. Where that failed,
        nothing is deleted.
    """

    resource: Resource
    target: Identity
    after: tuple[str, str] | None = None
