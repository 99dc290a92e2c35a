"""An API server on loopback that can be discovered, listed and watched: as much as an informer asks for.

The real one is used by the integration tests; this one can break at a chosen moment.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from serval_operator.api.resources import LEASES, Resource
from serval_operator.errors import KubeError
from support.fakes import FakeKubeApi

VERBS = ["list", "watch", "get", "patch"]


@dataclass
class Watchable:
    """Serves what a `FakeKubeApi` holds.

    Attributes
    ----------
    requests:
        Method, path and query of each request but discovery's.
    refuse:
        Codes to answer the next requests with, one each.
    refuse_paths:
        Codes to answer all requests with whose paths end so.
    close_at_once:
        Whether each watch is accepted and ended.
    allowed:
        Whether it says yes to those who ask what they may.
    prefix:
        Path that all its paths begin with, as behind a proxy; requests for others are refused.
    """

    api: FakeKubeApi
    resources: Sequence[Resource]
    url: str = ""
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    refuse: list[int] = field(default_factory=list)
    refuse_paths: dict[str, int] = field(default_factory=dict)
    close_at_once: bool = False
    allowed: bool = True
    deaf: bool = False
    prefix: str = ""
    discoveries: int = 0
    _watches: list[tuple[Resource, asyncio.Queue[dict[str, Any] | None]]] = field(default_factory=list)

    def tell(self, resource: Resource, kind: str, obj: dict[str, Any]) -> None:
        """Send an event to all watches of a kind; none while `deaf`."""
        for watched, queue in self._watches:
            if watched == resource and not self.deaf:
                queue.put_nowait({"type": kind, "object": obj})

    def expire(self) -> None:
        """Tell all watches that their resource version is too old."""
        for _, queue in self._watches:
            status = {"kind": "Status", "code": 410, "reason": "Expired"}
            queue.put_nowait({"type": "ERROR", "object": status})

    def hang_up(self) -> None:
        """End all watch requests, as the API server does after their time."""
        for _, queue in self._watches:
            queue.put_nowait(None)

    def watching(self) -> set[str]:
        """Plurals of the kinds that are being watched."""
        return {resource.plural for resource, _ in self._watches}

    def watch_requests(self) -> list[str]:
        """Paths of all watch requests so far."""
        return [path for _, path, query in self.requests if "watch" in query]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer a request."""
        path = request.path.removeprefix(self.prefix)
        if found := self._discovery(path):
            self.discoveries += 1
            return web.json_response(found)
        self.requests.append((request.method, path, dict(request.query)))
        if self.refuse:
            code = self.refuse.pop(0)
            return web.json_response({"kind": "Status", "code": code, "reason": "Refused"}, status=code)
        for end, code in self.refuse_paths.items():
            if path.endswith(end):
                return web.json_response({"kind": "Status", "code": code, "message": "refused"}, status=code)
        if path.endswith("selfsubjectaccessreviews"):
            return web.json_response({"status": {"allowed": self.allowed}}, status=201)
        if "/leases" in path:
            return await self._lease(request)
        for resource in self.resources:
            if path.startswith(resource.path(None).rsplit("/", 1)[0]) and path.endswith(resource.plural):
                if "watch" in request.query:
                    return await self._watch(request, resource)
                return await self._list(request, resource)
        return web.json_response({"kind": "Status", "code": 404}, status=404)

    async def _lease(self, request: web.Request) -> web.Response:
        """Read, create or replace a Lease."""
        try:
            if request.method == "POST":
                found = await self.api.create(LEASES, await request.json())
            elif request.method == "PUT":
                found = await self.api.update(LEASES, await request.json())
            else:
                namespace, _, name = request.path.rsplit("/", 3)[1:]
                found = await self.api.get(LEASES, namespace, name) or {}
        except KubeError as error:
            return web.json_response({"kind": "Status", "code": error.status}, status=error.status)
        return web.json_response(found or {"kind": "Status", "code": 404}, status=200 if found else 404)

    async def _list(self, request: web.Request, resource: Resource) -> web.Response:
        listing = await self.api.list(resource, label_selector=request.query.get("labelSelector", ""))
        meta = {"resourceVersion": listing.resource_version}
        return web.json_response({"kind": "List", "metadata": meta, "items": listing.items})

    async def _watch(self, request: web.Request, resource: Resource) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        if self.close_at_once:
            return response
        queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._watches.append((resource, queue))
        try:
            while (event := await queue.get()) is not None:
                await response.write(json.dumps(event).encode() + b"\n")
        finally:
            self._watches.remove((resource, queue))
        return response

    def _discovery(self, path: str) -> dict[str, Any] | None:
        versions = {(one.group, one.version) for one in self.resources}
        if path == "/api":
            return {"versions": ["v1"]}
        if path == "/apis":
            groups = [
                {"name": group, "versions": [{"version": version}], "preferredVersion": {"version": version}}
                for group, version in sorted(versions)
                if group
            ]
            return {"groups": groups}
        for group, version in versions:
            if path == (f"/apis/{group}/{version}" if group else f"/api/{version}"):
                kinds = [one for one in self.resources if (one.group, one.version) == (group, version)]
                return {"resources": [_kind(one) for one in kinds] + [_named(version, group)]}
        return None


def _kind(resource: Resource) -> dict[str, Any]:
    names = {"name": resource.plural, "singularName": "", "kind": resource.kind}
    return {**names, "namespaced": resource.namespaced, "verbs": VERBS}


def _named(version: str, group: str) -> dict[str, Any]:
    """A kind of the core group that informers wait for, beside ours."""
    name = "namespaces" if not group else f"others-{version}"
    return {"name": name, "singularName": "", "kind": name.title(), "namespaced": False, "verbs": VERBS}


@asynccontextmanager
async def watchable(resources: Sequence[Resource], prefix: str = "") -> AsyncIterator[Watchable]:
    """Run one, on an empty cluster."""
    served = Watchable(FakeKubeApi(), resources, prefix=prefix)
    served.api.on_event = served.tell
    application = web.Application()
    application.router.add_route("*", f"{prefix}/{{path:.*}}", served.answer)
    server = TestServer(application, host="127.0.0.1")
    await server.start_server()
    served.url = str(server.make_url(prefix)).rstrip("/")
    try:
        yield served
    finally:
        served.hang_up()
        await server.close()
