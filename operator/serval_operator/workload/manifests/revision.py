"""The ControllerRevision that keeps what a revision's pods look like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serval_operator.api.capabilities import ADDED_BY_FRONT, RAW_SCORE
from serval_operator.api.facts import FORMAT, Facts
from serval_operator.api.naming import Manifest, revision_name
from serval_operator.api.snapshots import OwnerView
from serval_operator.constants import LABEL_REVISION
from serval_operator.workload.effective_spec import EffectiveSpec
from serval_operator.workload.manifests.metadata import metadata


def facts_of(resolved: EffectiveSpec) -> Facts:
    """Facts about the pods that a spec comes to under today's configuration."""
    capabilities = set(resolved.runtime.capabilities)
    if resolved.front:
        capabilities |= ADDED_BY_FRONT
    if not resolved.scores:
        capabilities.discard(RAW_SCORE.name)
    return Facts(
        runtime=resolved.runtime.name,
        image=resolved.image,
        capabilities=frozenset(capabilities),
        placement=resolved.placement,
        own=resolved.own,
    )


def revision_record(
    model: OwnerView, *, key: str, template: Mapping[str, Any], facts: Facts, number: int
) -> Manifest:
    """Whole ControllerRevision, to be created once: its data is immutable.

    It keeps the rendered template and not the spec, so that an operator that would render another one today
    restarts no model. Where that template came from is kept beside it, see `serval_operator.api.facts`.

    Parameters
    ----------
    key:
        Key of the revision, see `serval_operator.workload.revision_key`.
    template:
        Pod template, as `pod_template` of the module `deployment` renders it.
    number:
        Place in the order of revisions, counted from 1.
    """
    meta = metadata(model, revision_name(model.name, key))
    meta["labels"][LABEL_REVISION] = key
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": meta,
        "data": {"format": FORMAT, "template": dict(template), "facts": facts.as_json()},
        "revision": number,
    }
