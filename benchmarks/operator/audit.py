"""What was asked of the API server, by its audit log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})


@dataclass(frozen=True)
class Request:
    """One answered request.

    Attributes
    ----------
    user:
        Who asked.
    verb:
        As the API server names it: get, list, watch, create, update, patch, delete.
    resource:
        Resource with its subresource, such as ``pods/status``; the path where it asks for no resource.
    code:
        HTTP status of the answer.
    time:
        When it was answered, in seconds since 1970; a watch when it began.
    """

    user: str
    verb: str
    resource: str
    code: int
    time: float

    @property
    def is_write(self) -> bool:
        """Whether it changed something, or would have."""
        return self.verb in WRITES and self.code < 300


def requests(log: Path, since: float, until: float) -> Iterator[Request]:
    """Requests answered within a span of time, from the log and the older part that was moved aside."""
    for path in sorted(log.parent.glob(f"{log.stem}*{log.suffix}")):
        with path.open("rb") as stream:
            for line in stream:
                request = _request(line)
                if request and since <= request.time < until:
                    yield request


def _request(line: bytes) -> Request | None:
    if not line.endswith(b"}\n"):
        return None  # it is being written
    event: dict[str, Any] = orjson.loads(line)
    if event["verb"] == "watch" and event["stage"] != "ResponseStarted":
        return None
    ref = event.get("objectRef") or {}
    parts = [ref[key] for key in ("resource", "subresource") if key in ref]
    return Request(
        event["user"]["username"],
        event["verb"],
        "/".join(parts) or event["requestURI"].partition("?")[0],
        int((event.get("responseStatus") or {}).get("code", 0)),
        datetime.fromisoformat(event["stageTimestamp"]).timestamp(),
    )


def tally(found: list[Request], what: Callable[[Request], bool] = lambda _: True) -> Counter[str]:
    """How many requests of each verb and resource there are."""
    return Counter(f"{one.verb} {one.resource}" for one in found if what(one))
