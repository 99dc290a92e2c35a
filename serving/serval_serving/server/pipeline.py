"""The one way of every request: id, key, admission, message, run, metrics, access log.

Nothing of a message is read before the key was checked and the request was admitted, so what arrives before
that costs neither memory nor CPU time.

gRPC, the REST API, `/score` and the proxy describe their RPCs and routes as `Endpoint`s. The defaults of an
endpoint are the strict ones: it requires a key, is limited and is counted, unless its table says otherwise.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import grpc

from serval_serving.engines.base import TIMED_OUT
from serval_serving.server import access, tracing
from serval_serving.server.inference import Admission, Deadline
from serval_serving.server.keys import HEADER, Keys
from serval_serving.server.metrics import GRPC
from serval_serving.server.prometheus import OVERFLOW
from serval_serving.server.receipts import Receipts
from serval_serving.server.request_timing import RequestTiming
from serval_serving.wire.status import StatusError
from serval_serving.wire.timing import REQUEST_HEADER

INTERNAL: Final = "The server failed on this request; its log has the details."

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An RPC or a route, and which steps of the pipeline its requests take.

    Attributes
    ----------
    api, entrypoint:
        Values of the metrics' labels of these names.
    open:
        Whether a request needs no key.
    limited:
        Whether a request is a prediction: it counts towards the limit on requests in progress, and its
        latency and its size are measured.
    counted:
        Whether a request is counted by status, and written to the access log.
    """

    api: str
    entrypoint: str
    open: bool = False
    limited: bool = True
    counted: bool = True

    @property
    def name(self) -> str:
        """What the access log calls it."""
        return self.api if self.entrypoint == GRPC else f"{self.entrypoint}/{self.api}"


class Caller(Protocol):
    """The sender of a request, in one of the protocols."""

    def peer(self) -> str | None:
        """Return the address for the access log."""

    def header(self, name: str) -> str | None:
        """Return the value of a header or of metadata, by its name in lower case; None if it is absent."""


class Call:
    """One request in the pipeline.

    Attributes
    ----------
    endpoint:
        Where it arrived.
    model:
        Name of the model, as far as it is known.
    name:
        What the access log calls the request.
    size:
        Bytes of the message.
    deadline:
        When its answer is late.
    trace:
        Its id, and what answers it.
    key:
        Name of the key that it showed; empty where none is required.
    ending:
        Trailing metadata that a server behind this one sent.
    times:
        Value of the header `server-timing`; empty unless the caller asked for it and the request was run.
    code:
        How it ended.
    """

    __slots__ = (
        "_admission",
        "_ready",
        "caller",
        "code",
        "deadline",
        "ending",
        "endpoint",
        "key",
        "model",
        "name",
        "size",
        "started",
        "times",
        "trace",
    )

    def __init__(
        self, endpoint: Endpoint, caller: Caller, admission: Admission, seconds: float | None = None
    ) -> None:
        self.endpoint = endpoint
        self.caller = caller
        self.model = ""
        self.name = endpoint.name
        self.size = 0
        self.times = ""
        self.trace = tracing.Trace(caller)
        self.key = ""
        self.ending: Sequence[tuple[str, str | bytes]] = ()
        self.code = grpc.StatusCode.OK
        self.started = self._ready = admission.now()
        self._admission = admission
        timing = RequestTiming() if caller.header(REQUEST_HEADER) is not None else None
        self.deadline: Deadline = admission.deadline(seconds, timing)

    def received(self, size: int, waited: float = 0.0) -> None:
        """Note that the message is complete, and how many seconds it has waited for this thread."""
        self.size = size
        self._ready = self._admission.now() - waited

    def admitted(self) -> AbstractContextManager[None]:
        """Count the request as in progress, if its endpoint is limited.

        Raises
        ------
        StatusError
            RESOURCE_EXHAUSTED: too many requests are in progress.
        """
        return self._admission.admitted() if self.endpoint.limited else nullcontext()

    def run(self, work: Callable[[], _T]) -> _T:
        """Do the work of the request in this thread.

        Raises
        ------
        StatusError
            What the work raises; INTERNAL for an error that is not one of these, which goes to the log.
        """
        timing = self.deadline.timing
        if timing is not None:
            timing.add(self._admission.now() - self._ready)
        tracing.begin(self.trace)
        try:
            return work()
        except StatusError:
            raise
        except Exception as error:
            raise _unforeseen(error, self) from error
        finally:
            tracing.end()
            if timing is not None:
                self.times = timing.header(self._admission.now() - self._ready)


class Pipeline:
    """Takes requests through the steps that all of them have in common.

    Parameters
    ----------
    admission:
        Limits the requests in progress; its metrics count them.
    keys:
        The keys for endpoints that are not open; None if no key is required.
    """

    def __init__(self, admission: Admission, keys: Keys | None = None) -> None:
        self._admission = admission
        self._keys = keys

    @property
    def receipts(self) -> Receipts:
        """The messages that are arriving."""
        return self._admission.receipts

    @property
    def has_keys(self) -> bool:
        """Whether keys are checked here."""
        return self._keys is not None

    def call(self, endpoint: Endpoint, caller: Caller, seconds: float | None = None) -> Call:
        """Begin a request that must be answered within `seconds`; None for any time."""
        return Call(endpoint, caller, self._admission, seconds)

    def now(self) -> float:
        """Read the clock, in monotonic seconds."""
        return self._admission.now()

    def answer(self, call: Call, steps: Callable[[Call], _T]) -> _T | StatusError:
        """Check the key, admit the request, take the steps of the protocol, and count the request.

        The steps receive and read the message, and do the work in `Call.run`.

        Returns
        -------
        The reply, or why there is none.
        """
        try:
            self.check_key(call)
            with call.admitted():
                reply = steps(call)
        except StatusError as error:
            return self._failed(call, error)
        except Exception as error:  # noqa: BLE001  every failure must get a status
            return self._failed(call, _unforeseen(error, call))
        self._note(call)
        return reply

    async def answer_async(self, call: Call, steps: Callable[[Call], Awaitable[_T]]) -> _T | StatusError:
        """Do the same as `answer` in an event loop, where a time-out ends the steps.

        Other errors than these and statuses come from a message that never arrived completely. They go to the
        HTTP server, and are not counted.
        """
        try:
            self.check_key(call)
            with call.admitted():
                reply = await steps(call)
        except StatusError as error:
            return self._failed(call, error)
        except TimeoutError:
            return self._failed(call, StatusError(grpc.StatusCode.DEADLINE_EXCEEDED, TIMED_OUT))
        self._note(call)
        return reply

    def check_key(self, call: Call) -> None:
        """Refuse a caller who shows no key, unless the endpoint is open.

        Raises
        ------
        StatusError
            UNAUTHENTICATED.
        """
        if self._keys is not None and not call.endpoint.open:
            call.key = self._keys.check(call.caller.header(HEADER))

    def _failed(self, call: Call, error: StatusError) -> StatusError:
        """Count a request that failed, and return its status."""
        call.code = error.code
        self._note(call)
        return error

    def _note(self, call: Call) -> None:
        """Count a request that ended, and write it to the access log, if its endpoint is counted."""
        metrics, endpoint, code = self._admission.metrics, call.endpoint, call.code
        if not endpoint.counted:
            return
        seconds = self._admission.now() - call.started
        # Callers choose the names of models: only those that there are may become labels.
        has_model = self._admission.has_model(call.model, answered=code is grpc.StatusCode.OK)
        model = call.model if has_model else OVERFLOW
        metrics.ended(model, code)
        if endpoint.limited and code is grpc.StatusCode.OK:
            metrics.request_latency.observe(seconds * 1e6, model, endpoint.api, endpoint.entrypoint)
            metrics.request_bytes.add(model, endpoint.entrypoint, amount=call.size)
        if access.log.isEnabledFor(logging.INFO):
            access.note(
                call.caller.peer(),
                call.name,
                call.model,
                code,
                seconds,
                call.size,
                request_id=call.trace.id,
                key=call.key,
            )


def _unforeseen(error: Exception, call: Call) -> StatusError:
    """Write an error to the log, and return what the caller is told of it."""
    _log.error("a request failed unexpectedly: id=%s", call.trace.id, exc_info=error)
    return StatusError(grpc.StatusCode.INTERNAL, INTERNAL)
