"""Many ModelDeployments from some: copies of all their objects in another namespace, made in etcd.

To create ten thousand takes two cores half an hour, nearly all of it work of the cluster. What a new operator
finds is the same either way: whole objects of whole ModelDeployments, each with names and uids of its own.
"""

from __future__ import annotations

import re
import uuid

from serval_lab.etcd import PREFIX, Etcd

UID = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
NOT_COPIED = ("/events/", "/serviceaccounts/", "/kube-root-ca.crt")
"""What is of no ModelDeployment, or is there already."""


def copy_namespace(store: Etcd, source: str, target: str) -> int:
    """Copy the objects of a namespace into another one; returns how many that were.

    Most are stored in a form that counts bytes, so both names must have the same length.
    """
    assert len(source) == len(target), f"{source} and {target} differ in length"
    kinds = {key.partition(f"/{source}/")[0] for key in store.keys() if f"/{source}/" in key}  # noqa: SIM118
    found = {
        key: value
        for kind in kinds
        for key, value in store.values(f"{kind}/{source}/").items()
        if key.startswith(PREFIX) and not any(part in key for part in NOT_COPIED)
    }
    store.put(
        {
            _text(key.encode(), source, target).decode(): _text(value, source, target)
            for key, value in found.items()
        }
    )
    return len(found)


def _text(text: bytes, source: str, target: str) -> bytes:
    """Put the other namespace, and for each uid another one, into a key or a stored object."""

    def other(match: re.Match[bytes]) -> bytes:
        return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{target} {match[0].decode()}")).encode()

    return UID.sub(other, text).replace(source.encode(), target.encode())
