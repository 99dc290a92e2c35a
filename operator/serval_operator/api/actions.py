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
    """

    resource: Resource
    manifest: Manifest
    required: bool = True


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
    """An object of ours that is deleted; one that was replaced meanwhile is left alone."""

    resource: Resource
    target: Identity
