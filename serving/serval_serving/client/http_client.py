"""A client of the REST API and of ``/score``."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote

import numpy as np
import urllib3
from urllib3 import exceptions as http
from urllib3.connection import HTTPConnection

from serval_serving.client.calls import CONNECT_SECONDS, DEFAULT_TIMEOUT, SILENCE_SECONDS
from serval_serving.client.errors import (
    DEADLINE_EXCEEDED,
    INTERNAL,
    UNAVAILABLE,
    ServingError,
    error_of,
    http_error,
)
from serval_serving.client.replies import (
    ModelMetadata,
    VersionStatus,
    metadata_of_json,
    status_of_json,
)
from serval_serving.client.timing import OnTiming, timing_of
from serval_serving.client.values import array_of_json, jsonable
from serval_serving.wire.timing import REPLY_HEADER, REQUEST_HEADER, YES

CONNECTIONS: Final = 16
"""Connections that are kept open for later requests."""
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 2.0
_MAX_ERROR_TEXT: Final = 1024

_T = TypeVar("_T")


class HttpClient:
    """Calls a model server over HTTP. Threads may share one; close it, or use it in a ``with`` statement.

    Requests that find no server, or are answered 503, are sent again until the time is up.

    Parameters
    ----------
    base_url:
        Such as ``http://host:8501``, without a path of the API.
    model:
        Name of the model; only `score` does without. A call may name another.
    ca_file:
        Authorities to trust, for ``https://``; None for the system's.
    key:
        Sent as ``Authorization: Bearer <key>``.
    timeout:
        Seconds that a call may take, unless it says otherwise.
    clock, sleep:
        Monotonic clock and waiting, both in seconds.
    """

    def __init__(
        self,
        base_url: str,
        *,
        model: str = "",
        ca_file: Path | None = None,
        key: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        context = ssl.create_default_context(cafile=ca_file) if base_url.startswith("https:") else None
        self._pool = urllib3.PoolManager(
            maxsize=CONNECTIONS, ssl_context=context, socket_options=_socket_options()
        )
        self._base = base_url.rstrip("/")
        self._model = model
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._timeout = timeout
        self._clock = clock
        self._sleep = sleep

    def score(
        self, data: bytes, *, timeout: float | None = None, on_timing: OnTiming | None = None
    ) -> np.ndarray[Any, Any]:
        """Send raw bytes, such as a JPEG file, and return the scores.

        `timeout` and `on_timing` are as `GrpcClient.predict` has them.

        Raises
        ------
        ServingError
            What the server, or the way to it, says.
        """
        body = self._call("POST", "/score", data, "application/octet-stream", timeout, on_timing)
        return _read(array_of_json, body)

    def predict(
        self,
        instances: Sequence[Any] | np.ndarray[Any, Any],
        *,
        model: str = "",
        version: int | None = None,
        signature: str = "",
        timeout: float | None = None,
        on_timing: OnTiming | None = None,
    ) -> np.ndarray[Any, Any] | dict[str, np.ndarray[Any, Any]]:
        """Run the model on one instance per row.

        Parameters
        ----------
        instances:
            One value per row, or for several inputs one mapping from names to values; bytes are encoded.
        model, version, signature:
            What to run; see `HttpClient` and `GrpcClient.predict`.
        timeout, on_timing:
            As `GrpcClient.predict` has them.

        Returns
        -------
        array or dict
            The output; for several outputs the arrays by name.

        Raises
        ------
        ServingError
            What the server, or the way to it, says.
        """
        content: dict[str, Any] = {"instances": jsonable(instances)}
        if signature:
            content["signature_name"] = signature
        path = self._path(model, version) + ":predict"
        data = json.dumps(content).encode()
        body = self._call("POST", path, data, "application/json", timeout, on_timing)
        return _read(_predictions, body)

    def metadata(
        self, model: str = "", version: int | None = None, *, timeout: float | None = None
    ) -> ModelMetadata:
        """Ask for the model's signatures. Raises `ServingError`."""
        body = self._call("GET", self._path(model, version) + "/metadata", None, "", timeout)
        return _read(metadata_of_json, body)

    def status(
        self, model: str = "", version: int | None = None, *, timeout: float | None = None
    ) -> list[VersionStatus]:
        """Ask for the states of one or all versions. Raises `ServingError`."""
        return _read(status_of_json, self._call("GET", self._path(model, version), None, "", timeout))

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _path(self, model: str, version: int | None) -> str:
        name = model or self._model
        if not name:
            raise error_of("INVALID_ARGUMENT", "the REST API needs the model's name")
        suffix = "" if version is None else f"/versions/{version}"
        return f"/v1/models/{quote(name, safe='')}{suffix}"

    def _call(
        self,
        method: str,
        path: str,
        body: bytes | None,
        kind: str,
        timeout: float | None,
        on_timing: OnTiming | None = None,
    ) -> bytes:
        """Send a request, and return the body of what answers it."""
        started = self._clock()
        headers = self._headers | ({"Content-Type": kind} if kind else {})
        if on_timing is not None:
            headers[REQUEST_HEADER] = YES
        end = started + (self._timeout if timeout is None else timeout)
        reply = self._tried(method, path, body, headers, end)
        if on_timing is not None:
            on_timing(timing_of(self._clock() - started, reply.headers.get(REPLY_HEADER, "")))
        return reply.data

    def _tried(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], end: float
    ) -> urllib3.BaseHTTPResponse:
        """Send a request until it is answered with anything but 502 or 503, or the time is up."""
        pause = _FIRST_PAUSE
        while True:
            try:
                return self._once(method, path, body, headers, end)
            except ServingError as error:
                refused = error.code != UNAVAILABLE or isinstance(error.__cause__, http.SSLError)
                if refused or self._clock() + pause >= end:
                    raise
            self._sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _once(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], end: float
    ) -> urllib3.BaseHTTPResponse:
        left = max(end - self._clock(), 0.001)
        try:
            reply = self._pool.request(
                method,
                self._base + path,
                body=body,
                headers=headers,
                retries=False,
                redirect=False,
                timeout=urllib3.Timeout(connect=min(CONNECT_SECONDS, left), read=left),
            )
        except http.HTTPError as error:
            raise _transport_error(error, self._base) from error
        if reply.status != 200:
            raise http_error(reply.status, _error_text(reply))
        return reply


def _socket_options() -> list[tuple[int, int, int]]:
    """Return urllib3's options, and the limit that gRPC sets too, where the system has it."""
    options = [(level, name, int(value)) for level, name, value in HTTPConnection.default_socket_options]
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        options.append((socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_SECONDS * 1000))
    return options


def _transport_error(error: http.HTTPError, base: str) -> ServingError:
    """Say what it means that no answer came."""
    if isinstance(error, http.ReadTimeoutError):
        return error_of(DEADLINE_EXCEEDED, f"{base} did not answer in time")
    if isinstance(error, http.LocationValueError):
        return error_of("INVALID_ARGUMENT", f"{base} is no URL")
    return error_of(UNAVAILABLE, f"{base}: {error}")


def _error_text(reply: urllib3.BaseHTTPResponse) -> str:
    """Return the text of an error: the API's ``{"error": ...}``, or the body as it is."""
    text = reply.data.decode("utf-8", "replace").strip()
    try:
        content = json.loads(text)
    except ValueError:
        content = None
    if isinstance(content, dict) and isinstance(content.get("error"), str):
        text = content["error"]
    return text[:_MAX_ERROR_TEXT] or f"HTTP status {reply.status}"


def _predictions(reply: Any) -> np.ndarray[Any, Any] | dict[str, np.ndarray[Any, Any]]:
    """Read the rows of a reply; rows of several outputs are turned into columns."""
    rows = reply["predictions"]
    if rows and isinstance(rows[0], dict) and "b64" not in rows[0]:
        return {name: array_of_json([row[name] for row in rows]) for name in sorted(rows[0])}
    return array_of_json(rows)


def _read(read: Callable[[Any], _T], body: bytes) -> _T:
    """Apply `read` to the JSON in `body`."""
    try:
        return read(json.loads(body))
    except (ValueError, LookupError, TypeError) as error:
        raise ServingError(INTERNAL, f"the reply cannot be read: {error}") from error
