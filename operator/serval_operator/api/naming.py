"""Names, selectors and hashes that deciding and building share."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import orjson

from serval_operator.constants import (
    HEADLESS_SUFFIX,
    LABEL_KIND,
    LABEL_MANAGED_BY,
    LABEL_NAME,
    MANAGED_BY,
    PIN_SUFFIX,
)

Manifest = dict[str, Any]
"""A whole object, as it is applied."""

MAX_CHILD_NAME = 63
"""Characters of a child's name: as many as a DNS label and a label's value may have."""


class Key(NamedTuple):
    """Identity of a custom resource of ours: the unit of work of the queue."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        """As messages and logs name it."""
        return f"{self.kind} {self.namespace}/{self.name}"


class Place(NamedTuple):
    """Identity of an object among those of one kind; the namespace of a cluster-scoped one is empty."""

    namespace: str
    name: str


def suffixed(name: str, suffix: str, most: int = MAX_CHILD_NAME) -> str:
    """Name of a child: the owner's name and a suffix.

    Only kinds that serve own children of their own name; all other children have a suffix that names the
    kind or the purpose. Where the result would be too long, the owner's name is cut and followed by a hash of
    the whole, so that two long names stay two.

    Parameters
    ----------
    suffix:
        With its leading hyphen.
    most:
        Longest name. A Job with completion indexes needs room for ``-INDEX`` in the names of its pods.
    """
    whole = name + suffix
    if len(whole) <= most:
        return whole
    mark = f"-{digest(whole)[:6]}"
    return name[: most - len(mark) - len(suffix)].rstrip("-") + mark + suffix


def headless_name(name: str) -> str:
    """Name of the headless Service beside the Service of the same name as its owner."""
    return suffixed(name, HEADLESS_SUFFIX)


def revision_name(name: str, key: str) -> str:
    """Name of the ControllerRevision that keeps a revision of an object."""
    return suffixed(name, f"-{key}")


def pin_name(name: str, uid: str, key: str) -> str:
    """Name of the ConfigMap that says which model all replicas of a revision serve.

    The owner's uid is part of it, so that a ConfigMap of a deleted predecessor with the same name and spec,
    which exists until the garbage collector removes it, has no effect.
    """
    return suffixed(name, f"-{key}-{uid[:8]}{PIN_SUFFIX}")


def selector(key: Key) -> dict[str, str]:
    """Labels that select the pods of an object, of every revision.

    Selectors of Deployments are immutable, so this never changes after a release.
    """
    return {LABEL_MANAGED_BY: MANAGED_BY, LABEL_KIND: key.kind, LABEL_NAME: key.name}


def digest(value: Any) -> str:
    """First 10 hexadecimal digits of the SHA-256 of a JSON value, keys sorted."""
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()[:10]
