"""The id of each request, and which version of which model answers it.

What runs a request knows no headers. So a thread keeps the trace of the request that it works on, and notes
in it the version that answers.
"""

from __future__ import annotations

import random
import threading
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Final, Protocol

from serval_serving.models.handle import ServableHandle
from serval_serving.wire.tracing import (
    CLIENT_REQUEST_ID,
    DEVICE_ENGINE,
    MODEL_DIGEST,
    MODEL_VERSION,
    REQUEST_ID,
    TRACEPARENT,
    TRACESTATE,
    request_id,
    trace_context,
)

Headers = list[tuple[str, str]]

# An id need not be secret, only unique. A generator of the process, seeded by the system, takes 0.1 us.
_random_bits: Final = random.Random().getrandbits  # noqa: S311
_here = threading.local()


class Caller(Protocol):
    """The sender of a request."""

    def header(self, name: str) -> str | None:
        """Return the value of a header or of metadata, by its name in lower case; None if it is absent."""


class Trace:
    """What a reply says of its request.

    Parameters
    ----------
    caller:
        The sender.

    Attributes
    ----------
    id:
        The caller's id if it has one that is well formed, else one made here.
    version, digest, engine:
        What answers; None and empty as long as that is not known. The engine is that of a device that the
        version has for itself.
    """

    __slots__ = ("_caller", "_client_id", "digest", "engine", "id", "version")

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        header = caller.header
        own, client = header(REQUEST_ID), header(CLIENT_REQUEST_ID)
        self._client_id = request_id(client) if client else ""
        self.id = (own and request_id(own)) or self._client_id or f"{_random_bits(128):032x}"
        self.version: int | None = None
        self.digest = self.engine = ""

    def reply_headers(self) -> Headers:
        """Return the headers of the reply."""
        headers = self.ids()
        if self.version is not None:
            headers.append((MODEL_VERSION, str(self.version)))
        if self.digest:
            headers.append((MODEL_DIGEST, self.digest))
        if self.engine:
            headers.append((DEVICE_ENGINE, self.engine))
        return headers

    def ids(self) -> Headers:
        """Return the headers that identify the request."""
        headers = [(REQUEST_ID, self.id)]
        if self._client_id:
            headers.append((CLIENT_REQUEST_ID, self._client_id))
        return headers

    def forwarded(self) -> Headers:
        """Return the headers that a server behind this one gets."""
        header = self._caller.header
        return self.ids() + trace_context(header(TRACEPARENT), header(TRACESTATE))


def begin(trace: Trace) -> None:
    """Keep the trace of the request that this thread begins to work on."""
    _here.trace = trace


def end() -> None:
    """Forget the request that this thread worked on; it may hold a large body."""
    _here.trace = None


def current() -> Trace | None:
    """Return the trace of the request that this thread works on; None outside of requests."""
    trace: Trace | None = getattr(_here, "trace", None)
    return trace


class noted:  # noqa: N801  it is used like a function
    """Holds a version, and notes that it answers the request that this thread works on.

    A generator with `contextlib.contextmanager` takes 3 us more.
    """

    __slots__ = ("_held",)

    def __init__(self, held: AbstractContextManager[ServableHandle]) -> None:
        self._held = held

    def __enter__(self) -> ServableHandle:
        handle = self._held.__enter__()
        note(handle.version, handle.digest, handle.engine)
        return handle

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._held.__exit__(kind, error, trace)


def note(version: int, digest: str, engine: str = "") -> None:
    """Note which version answers the request that this thread works on."""
    trace = current()
    if trace is not None:
        trace.version, trace.digest, trace.engine = version, digest, engine
