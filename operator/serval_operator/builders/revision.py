"""The ControllerRevision that keeps what a revision's pods look like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serval_operator.api.naming import Manifest, revision_name
from serval_operator.api.views import ModelView
from serval_operator.builders.metadata import metadata
from serval_operator.constants import LABEL_REVISION


def revision_record(model: ModelView, *, key: str, template: Mapping[str, Any], number: int) -> Manifest:
    """Whole ControllerRevision, to be created once: Kubernetes lets nobody change its data.

    It keeps the rendered template and not the spec, so that an operator that would render another one today
    restarts no model.

    Parameters
    ----------
    key:
        Key of the revision, see `serval_operator.api.shape`.
    template:
        Pod template, without the label that names its revision.
    number:
        Place in the order of revisions, counted from 1.
    """
    meta = metadata(model, revision_name(model.name, key))
    meta["labels"][LABEL_REVISION] = key
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": meta,
        "data": {"template": dict(template)},
        "revision": number,
    }
