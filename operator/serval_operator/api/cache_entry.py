"""ModelDeployments as the cache keeps them: packed, since there may be ten thousand.

A spec and a status as dictionaries take 8 KB; packed they take 1 KB and, at each look, some 30 microseconds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from serval_operator.api.naming import Key
from serval_operator.api.snapshots import ModelView, parse_model
from serval_operator.api.unstructured import mapping, pack, place_of, unpack
from serval_operator.constants import MODEL_DEPLOYMENT


@dataclass(frozen=True, slots=True)
class KeptModel:
    """A ModelDeployment.

    Parameters
    ----------
    judged:
        Whether its status says anything yet.
    content:
        The object without what no view shows, packed.
    """

    namespace: str
    name: str
    resource_version: str
    judged: bool
    content: bytes

    @property
    def owner(self) -> Key:
        """Key of who has to know of changes: itself."""
        return Key(MODEL_DEPLOYMENT, self.namespace, self.name)

    def view(self) -> ModelView:
        """What planning works with."""
        return parse_model(unpack(self.content))


def keep_model(obj: Mapping[str, Any]) -> KeptModel:
    """Pack a ModelDeployment. Total, as all parsing is."""
    meta, status = mapping(obj, "metadata"), mapping(obj, "status")
    namespace, name = place_of(meta)
    kept = {field: value for field, value in meta.items() if field != "managedFields"}
    whole = {"metadata": kept, "spec": mapping(obj, "spec"), "status": status}
    return KeptModel(
        namespace=namespace,
        name=name,
        resource_version=str(meta.get("resourceVersion", "")),
        judged=bool(status.get("conditions")),
        content=_packed(whole),
    )


def _packed(whole: Mapping[str, Any]) -> bytes:
    try:
        return pack(whole)
    except TypeError:
        # A number beyond 64 bits, as a quantity may be that is no string: read again, it is a float.
        return pack(orjson.loads(json.dumps(whole)))
