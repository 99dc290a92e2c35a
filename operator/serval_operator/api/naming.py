"""Names, selectors and hashes that deciding and building share."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson

from serval_operator.constants import HEADLESS_SUFFIX, LABEL_MANAGED_BY, LABEL_NAME, MANAGED_BY

Manifest = dict[str, Any]
"""A whole object, as it is applied."""


def headless_name(name: str) -> str:
    """Name of the headless Service beside the Service of a ModelDeployment."""
    return name + HEADLESS_SUFFIX


def selector(name: str) -> dict[str, str]:
    """Labels that choose the pods of a ModelDeployment, of every revision. Never to be changed."""
    return {LABEL_MANAGED_BY: MANAGED_BY, LABEL_NAME: name}


def digest(value: Any) -> str:
    """First 10 hexadecimal digits of the SHA-256 of a JSON value, keys sorted."""
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()[:10]
