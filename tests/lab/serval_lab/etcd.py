"""Takes a control plane back to where it was, through etcd: quicker than any deletion by the API server.

Objects vanish without finalizers, grace periods or garbage collection; watchers see DELETED events. For
tests between which nothing may remain.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import urllib3

from serval_lab.errors import LabError

PREFIX = "/registry/"
BATCH = 100  # etcd takes 128 operations in a transaction
PUTS = 50  # and 1.5 MB in a request
_SYSTEM = {"kube-system", "kube-public", "kube-node-lease"}
_ROUNDS = 5


class Etcd:
    """Talks to etcd's JSON gateway.

    Parameters
    ----------
    url
        URL of its clients.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._pool = urllib3.PoolManager(retries=False, timeout=10.0)

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

    def keys(self) -> list[str]:
        """Return the keys of all objects."""
        return list(self.versions(PREFIX))

    def versions(self, prefix: str) -> dict[str, int]:
        """Return how often each object below a prefix was written, by key: what is no change is not kept."""
        asked = {"key": _encode(prefix), "range_end": _encode(_end(prefix)), "keys_only": True}
        answer = self._call("range", asked)
        return {
            base64.b64decode(entry["key"]).decode(): int(entry["version"]) for entry in answer.get("kvs", [])
        }

    def values(self, prefix: str) -> dict[str, bytes]:
        """Return the objects below a prefix as they are stored, by key."""
        answer = self._call("range", {"key": _encode(prefix), "range_end": _encode(_end(prefix))})
        return {
            base64.b64decode(entry["key"]).decode(): base64.b64decode(entry["value"])
            for entry in answer.get("kvs", [])
        }

    def put(self, objects: Mapping[str, bytes]) -> None:
        """Store objects by key."""
        pairs = list(objects.items())
        for first in range(0, len(pairs), PUTS):
            part = pairs[first : first + PUTS]
            puts = [{"key": _encode(key), "value": base64.b64encode(value).decode()} for key, value in part]
            self._call("txn", {"success": [{"request_put": put} for put in puts]})

    def revision(self) -> int:
        """Return the revision: it grows by one with each write that is kept."""
        answer = self._call("range", {"key": _encode(PREFIX), "count_only": True})
        return int(answer["header"]["revision"])

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects by key."""
        for first in range(0, len(keys), BATCH):
            part = keys[first : first + BATCH]
            self._call("txn", {"success": [{"request_delete_range": {"key": _encode(key)}} for key in part]})

    def _call(self, method: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            answer = self._pool.request("POST", f"{self._url}/v3/kv/{method}", json=body)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise LabError(f"etcd does not answer: {error}") from error
        if answer.status != 200:
            raise LabError(f"etcd: {method}: {answer.status}: {answer.data.decode(errors='replace')[:300]}")
        result: dict[str, Any] = answer.json()
        return result


def stale(keys: Iterable[str], baseline: Iterable[str]) -> list[str]:
    """Return the keys that a reset deletes.

    Parameters
    ----------
    keys
        What is there now.
    baseline
        What was there at the mark. What lies in a namespace of the system stays too: controllers make
        their service accounts there when they first need them, and hold tokens of these.
    """
    kept = set(baseline)
    return [key for key in keys if key not in kept and not _SYSTEM & set(key.split("/"))]


def mark(etcd: Etcd, path: Path) -> None:
    """Note in `path` what is there now."""
    path.write_text(json.dumps(etcd.keys()))


def reset(etcd: Etcd, path: Path) -> int:
    """Delete what was not there at the mark noted in `path`; return how many objects that were.

    Raises
    ------
    LabError
        If there is no mark, or something keeps making new objects.
    """
    try:
        baseline = json.loads(path.read_text())
    except FileNotFoundError:
        raise LabError("nothing to go back to: the lab is not up, or was taken down since") from None
    deleted = 0
    for _ in range(_ROUNDS):  # controllers may answer a deletion with a last write
        keys = stale(etcd.keys(), baseline)
        if not keys:
            return deleted
        etcd.delete(keys)
        deleted += len(keys)
    raise LabError(f"something keeps making objects while they are deleted, such as {keys[0]}")


def _end(prefix: str) -> str:
    """Return the end of the range of all keys that begin with a prefix."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


def _encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
