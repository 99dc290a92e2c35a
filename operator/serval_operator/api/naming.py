"""Names, selectors and hashes that deciding and building share."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson

from serval_operator.constants import HEADLESS_SUFFIX, LABEL_MANAGED_BY, LABEL_NAME, MANAGED_BY, PIN_SUFFIX

Manifest = dict[str, Any]
"""A whole object, as it is applied."""


def headless_name(name: str) -> str:
    """Name of the headless Service beside the Service of a ModelDeployment."""
    return name + HEADLESS_SUFFIX


def revision_name(name: str, key: str) -> str:
    """Name of the ControllerRevision that keeps a revision of a ModelDeployment."""
    return f"{name}-{key}"


def pin_name(name: str, uid: str, key: str) -> str:
    """Name of the ConfigMap that says which model all replicas of a revision serve.

    The ModelDeployment's uid is part of it: what a predecessor of the same name and spec left behind, until
    the garbage is collected, must bind nobody.
    """
    return f"{revision_name(name, key)}-{uid[:8]}{PIN_SUFFIX}"


def selector(name: str) -> dict[str, str]:
    """Labels that choose the pods of a ModelDeployment, of every revision. Never to be changed."""
    return {LABEL_MANAGED_BY: MANAGED_BY, LABEL_NAME: name}


def digest(value: Any) -> str:
    """First 10 hexadecimal digits of the SHA-256 of a JSON value, keys sorted."""
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()[:10]
