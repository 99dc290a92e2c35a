"""The API client: one aiohttp session, plain JSON objects, server-side apply.

Measured, a request costs a fifth of the CPU that the official asyncio client takes for it, so that client
gives the authentication (`auth.py`) and this carries the requests.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from typing import Any, Self, TypeVar
from urllib.parse import urlencode

import aiohttp
import orjson
from yarl import URL

from serval_operator.api.resources import Resource
from serval_operator.api.unstructured import mapping
from serval_operator.constants import FIELD_MANAGER
from serval_operator.errors import Conflict, Forbidden, Gone, Invalid, KubeError, Transient
from serval_operator.runtime.authentication import CONNECT_SECONDS, Connection
from serval_operator.runtime.fence import fenced
from serval_operator.runtime.kube_api import Listing, Object
from serval_operator.runtime.metrics import Metrics

APPLY = "application/apply-patch+yaml"
"""JSON is YAML: the manifest goes out as JSON under the type that the API server knows."""
JSON = "application/json"
MERGE = "application/merge-patch+json"
PAGE = 100
"""Objects per page of a LIST: bounds the memory that whole objects take until they are converted."""
READ_PAUSES = (0.1, 0.5)
"""Seconds before a failed read is tried again; then the error is raised."""
LONGEST_ASKED_PAUSE = 2.0
"""A read that the server wants to be put off for longer is left to the caller, who can do other work."""
OPENAPI = Resource("", "v3", "openapi", "OpenAPI", namespaced=False)
"""How requests for schemas are named in the metrics."""
RESTARTS = 3
"""A LIST whose continuation expired is begun anew so often; then it is read in one page."""
LONGEST_MESSAGE = 2048
NO_ANSWER = "none"
"""Code in the metrics of a request that got no answer."""

_GO_ESCAPES = (
    (b"<", rb"\u003c"),
    (b">", rb"\u003e"),
    (b"&", rb"\u0026"),
    ("\u2028".encode(), rb"\u2028"),
    ("\u2029".encode(), rb"\u2029"),
)
"""In JSON these occur in texts only, so that the bytes can be replaced."""
_PASSING = frozenset({401, 408, 429})
"""Client errors that pass by themselves; 401 when a token ended that is being renewed."""
_FORCED = urlencode({"fieldManager": FIELD_MANAGER, "force": "true"})
_OURS = urlencode({"fieldManager": FIELD_MANAGER})
_T = TypeVar("_T")


class KubeClient:
    """`KubeApi` over one session. Use it as an async context manager, or `close` it.

    Parameters
    ----------
    timeout:
        Limit of one request, in seconds.
    in_flight:
        Most requests at the same time. Waiting for a place does not count as time of the request.
    hear:
        Told the ``Date`` of each answer.
    write_seconds:
        How long a request that could change something may be under way from now on; see `fence.fenced`.
    """

    def __init__(
        self,
        connection: Connection,
        meter: Metrics,
        *,
        timeout: float = 30.0,
        in_flight: int = 32,
        write_seconds: Callable[[], float] = lambda: math.inf,
        hear: Callable[[str], None] = lambda _: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._server = connection.server
        self._session = connection.session(connections=in_flight)
        self._timeout = aiohttp.ClientTimeout(total=timeout, sock_connect=CONNECT_SECONDS)
        self._places = asyncio.Semaphore(in_flight)
        self._meter = meter
        self._write_seconds = write_seconds
        self._hear = hear
        self._sleep = sleep

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the session."""
        await self._session.close()

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Object | None:
        """Read one object; None when there is none."""
        try:
            return await self._read("get", resource, resource.path(namespace, name))
        except KubeError as error:
            if error.status == 404:
                return None
            raise

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> Listing[Object]:
        """Read all objects of a kind, in pages."""
        found = await self.list_as(
            _whole, resource, namespace, label_selector=label_selector, field_selector=field_selector
        )
        return Listing(found.items, found.resource_version)

    async def list_as(
        self,
        convert: Callable[[Object], _T],
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> Listing[_T]:
        """Read all objects of a kind and keep of each what ``convert`` makes of it.

        Only one page of whole objects is in memory at a time.
        """
        query = {"labelSelector": label_selector, "fieldSelector": field_selector}
        query = {name: value for name, value in query.items() if value}
        path = resource.path(namespace)
        for _ in range(RESTARTS):
            try:
                return await self._pages(convert, resource, path, {**query, "limit": str(PAGE)})
            except Gone:
                continue
        return await self._pages(convert, resource, path, query)

    async def schemas(self, group: str, version: str) -> Mapping[str, Any]:
        """Read the schemas of a group's version by their names, from OpenAPI.

        Any authenticated client may read them. They follow a changed CRD with a short delay.
        """
        found = await self._read("get", OPENAPI, f"/openapi/v3/apis/{group}/{version}")
        return mapping(mapping(found, "components"), "schemas")

    async def apply(self, resource: Resource, manifest: Mapping[str, Any]) -> Object:
        """Server-side apply, forced; returns the object as stored.

        Raises
        ------
        Conflict
            The manifest carries a uid, and the object has another one or is gone.
        """
        meta = manifest["metadata"]
        path = resource.path(meta.get("namespace"), meta["name"])
        try:
            return await self._send("apply", resource, "PATCH", f"{path}?{_FORCED}", manifest, APPLY)
        except KubeError as error:
            if error.status == 404 and meta.get("uid"):
                raise Conflict(error.status, error.reason, error.message) from error
            raise

    async def apply_status(self, resource: Resource, manifest: Mapping[str, Any]) -> Object | None:
        """Server-side apply of the status; None when the object is gone.

        Raises
        ------
        Conflict
            The manifest carries a resource version, and the object has changed since; or it carries a uid,
            and the object has another one. For the latter alone the API server writes nevertheless.
        """
        meta = manifest["metadata"]
        path = resource.path(meta["namespace"], meta["name"], "status")
        try:
            stored = await self._send("apply_status", resource, "PATCH", f"{path}?{_FORCED}", manifest, APPLY)
        except KubeError as error:
            if error.status == 404:
                return None
            raise
        if meta.get("uid", stored["metadata"]["uid"]) != stored["metadata"]["uid"]:
            raise Conflict(409, "Conflict", f"{resource.kind} {meta['name']} is another object by now")
        return stored

    async def create(self, resource: Resource, manifest: Mapping[str, Any]) -> Object:
        """Create one object.

        Raises
        ------
        Conflict
            There is one of that name.
        """
        # Reviews, which the API server only answers, have no metadata.
        path = resource.path((manifest.get("metadata") or {}).get("namespace"))
        return await self._send("create", resource, "POST", f"{path}?{_OURS}", manifest, JSON)

    async def update(self, resource: Resource, manifest: Mapping[str, Any]) -> Object:
        """Replace one object.

        Raises
        ------
        Conflict
            It is not at the manifest's resource version any more.
        """
        meta = manifest["metadata"]
        path = resource.path(meta.get("namespace"), meta["name"])
        return await self._send("update", resource, "PUT", f"{path}?{_OURS}", manifest, JSON)

    async def merge(
        self, resource: Resource, namespace: str | None, name: str, body: Mapping[str, Any]
    ) -> Object | None:
        """Merge fields into one object; None when there is none.

        Raises
        ------
        Conflict
            The body carries a uid, and the object has another one.
        """
        path = resource.path(namespace, name)
        try:
            return await self._send("merge", resource, "PATCH", f"{path}?{_OURS}", body, MERGE)
        except KubeError as error:
            if error.status == 404:
                return None
            raise

    async def delete(self, resource: Resource, namespace: str | None, name: str, *, uid: str) -> bool:
        """Delete one object if it still has this uid; False when that object is gone already."""
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": uid},
            "propagationPolicy": "Background",
        }
        try:
            await self._send("delete", resource, "DELETE", resource.path(namespace, name), options, JSON)
        except KubeError as error:
            if error.status in {404, 409}:
                return False
            raise
        return True

    async def _pages(
        self, convert: Callable[[Object], _T], resource: Resource, path: str, query: dict[str, str]
    ) -> Listing[_T]:
        items: list[_T] = []
        token = ""
        while True:
            asked = urlencode({**query, "continue": token} if token else query)
            page = await self._read("list", resource, f"{path}?{asked}" if asked else path)
            meta, found = page.get("metadata"), page.get("items") or []
            objects = isinstance(found, list) and all(isinstance(item, dict) for item in found)
            if not isinstance(meta, dict) or not objects:
                raise Transient(200, "NoList", f"{path}: the answer is no list of objects")
            items.extend(convert(item) for item in found)
            token = meta.get("continue") or ""
            if not token:
                return Listing(tuple(items), meta.get("resourceVersion", ""))

    async def _read(self, verb: str, resource: Resource, target: str) -> Object:
        """Send a GET; a passing failure is tried again, since reading twice does no harm."""
        for pause in READ_PAUSES:
            try:
                return await self._send(verb, resource, "GET", target)
            except Transient as error:
                asked = error.retry_after or 0.0
                if asked > LONGEST_ASKED_PAUSE:
                    raise
                await self._sleep(max(pause, asked) * random.uniform(1.0, 1.25))  # noqa: S311 - no secret
        return await self._send(verb, resource, "GET", target)

    async def _send(
        self,
        verb: str,
        resource: Resource,
        method: str,
        target: str,
        body: Mapping[str, Any] | None = None,
        content: str = "",
    ) -> Object:
        """Send one request.

        Raises
        ------
        KubeError
            As its subclasses say; never an error of the transport.
        """
        # Asked after the wait for a place. It covers what is still to come: credentials and connection.
        fence = nullcontext() if method == "GET" else fenced(self._write_seconds, f"{method} {target}")
        async with self._places, fence:
            started, code = time.perf_counter(), NO_ANSWER
            try:
                async with self._session.request(
                    method,
                    URL(self._server + target, encoded=True),
                    data=go_json(body) if body is not None else None,
                    headers={"Content-Type": content} if body is not None else None,
                    timeout=self._timeout,
                ) as response:
                    code = str(response.status)
                    self._hear(response.headers.get("Date", ""))
                    payload = await response.read()
            except TimeoutError as error:
                raise Transient(0, "Timeout", f"{method} {target}: no answer in time") from error
            except (aiohttp.ClientError, OSError) as error:
                # Only the words: the error's other parts can hold the request's headers.
                raise Transient(0, "Unreachable", f"{method} {target}: {error}") from error
            finally:
                self._meter.request(verb, resource.plural, code, time.perf_counter() - started)
        if response.status >= 400:
            raise answered_with(response.status, payload, response.headers.get("Retry-After", ""))
        return _parsed(response.status, payload, target)


def go_json(value: Mapping[str, Any]) -> bytes:
    """JSON as Go's encoding/json writes it: keys sorted, no spaces, and characters of HTML escaped.

    The API server keeps the data of a ControllerRevision byte for byte and refuses any change of it. Its own
    patches write the data anew in this form, so an object in another form could never be patched: the
    garbage collector could not orphan it.
    """
    text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    for character, escape in _GO_ESCAPES:
        text = text.replace(character, escape)
    return text


def _parsed(code: int, payload: bytes, target: str) -> Object:
    try:
        found = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise Transient(code, "NoJSON", f"{target}: the answer is no JSON") from error
    if not isinstance(found, dict):
        raise Transient(code, "NoJSON", f"{target}: the answer is no JSON object")
    return found


def _whole(obj: Object) -> Object:
    return obj


def answered_with(code: int, payload: bytes, retry_after: str) -> KubeError:
    """The error that an answer of at least 400 means."""
    status = _status(payload)
    reason = str(status.get("reason") or "")
    message = str(status.get("message") or payload[:LONGEST_MESSAGE].decode(errors="replace"))
    if code == 422 and _about_uid(status):
        # How the API server says that a uid sent along is not that of the object.
        return Conflict(code, reason, message)
    match code:
        case 400 | 413 | 422:
            return Invalid(code, reason, message)
        case 403:
            return Forbidden(code, reason, message)
        case 409:
            return Conflict(code, reason, message)
        case 410:
            return Gone(code, reason, message)
        case _ if code in _PASSING or code >= 500:
            return Transient(code, reason, message, _pause(status, retry_after))
        case _:
            return KubeError(code, reason, message)


def _status(payload: bytes) -> Mapping[str, Any]:
    """The Status object of an answer; empty when a proxy or something else answered."""
    try:
        found = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) and found.get("kind") == "Status" else {}


def _about_uid(status: Mapping[str, Any]) -> bool:
    causes = (status.get("details") or {}).get("causes") or ()
    return any(cause.get("field") == "metadata.uid" for cause in causes)


def _pause(status: Mapping[str, Any], header: str) -> float | None:
    """Seconds that the server asks to wait, from the header or from the Status."""
    if header.isdecimal():
        return float(header)
    asked = (status.get("details") or {}).get("retryAfterSeconds")
    return float(asked) if asked else None
