"""A proxy between an operator and the API server that does to requests what bad days do.

It listens on loopback without TLS, passes everything on, watches included, and lets a test answer in the API
server's stead, be slow, lose answers of requests that took effect, or stop the operator at a chosen write.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp
import yaml
from aiohttp import web

LIMIT = 30.0
READS = frozenset({"GET", "HEAD", "OPTIONS"})
_HOP = frozenset({"host", "connection", "transfer-encoding", "content-length", "keep-alive"})


@dataclass(frozen=True)
class Request:
    """One request of the operator, as it came."""

    method: str
    path: str
    query: str
    body: bytes

    @property
    def is_write(self) -> bool:
        """Whether it may change an object. Events about objects do not count."""
        return self.method not in READS and "/events" not in self.path and "accessreviews" not in self.path

    @property
    def is_watch(self) -> bool:
        """Whether it is a watch."""
        return "watch=true" in self.query


@dataclass(frozen=True)
class Fault:
    """What happens to a request.

    Attributes
    ----------
    status:
        Code to answer with in the API server's stead; 0 passes the request on.
    reason, headers:
        Of that answer.
    delay:
        Seconds before anything happens.
    lose:
        Pass the request on, and close the connection without an answer.
    """

    status: int = 0
    reason: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    lose: bool = False


Rule = Callable[[Request], Fault | None]
"""Called with each request, on the proxy's thread."""


class Meddler:
    """The proxy; a context manager.

    Parameters
    ----------
    kubeconfig:
        Of the operator: where the API server is, whom it trusts, and the token that goes along.
    folder:
        Where the kubeconfig of the proxy goes.

    Attributes
    ----------
    rule:
        What to do with each request.
    after_write:
        Called with each write that was passed on and answered, before the operator gets the answer.
    writes:
        The writes passed on, in order.
    """

    def __init__(self, kubeconfig: Path, folder: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        self._server = str(cluster["server"])
        self._tls = ssl.create_default_context(
            cadata=base64.b64decode(cluster["certificate-authority-data"]).decode()
        )
        self._config = config
        self.kubeconfig = folder / "meddler.kubeconfig"
        self.rule: Rule = lambda _: None
        self.after_write: Callable[[Request], None] = lambda _: None
        self.writes: list[Request] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="meddler", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(LIMIT)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(LIMIT)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(LIMIT)
        self._loop.close()

    async def _start(self) -> None:
        connector = aiohttp.TCPConnector(ssl=self._tls, limit=0)
        self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        application = web.Application(client_max_size=64 * 2**20)
        application.router.add_route("*", "/{path:.*}", self._pass)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self._config["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{port}"}
        self.kubeconfig.write_text(yaml.safe_dump(self._config))
        self.kubeconfig.chmod(0o600)

    async def _stop(self) -> None:
        await self._session.close()
        await self._runner.cleanup()

    async def _pass(self, incoming: web.Request) -> web.StreamResponse:
        request = Request(incoming.method, incoming.path, incoming.query_string, await incoming.read())
        fault = self.rule(request) or Fault()
        if fault.delay:
            await asyncio.sleep(fault.delay)
        if fault.status:
            return _event(fault) if request.is_watch else _status(fault)
        headers = {name: value for name, value in incoming.headers.items() if name.lower() not in _HOP}
        try:
            async with self._session.request(
                incoming.method, self._server + incoming.raw_path, data=request.body or None, headers=headers
            ) as outgoing:
                if request.is_write:
                    body = await outgoing.read()
                    if outgoing.status < 300:
                        self.writes.append(request)
                        self.after_write(request)
                    if fault.lose:
                        _cut(incoming)
                    return web.Response(status=outgoing.status, body=body, headers=_answered(outgoing))
                return await _stream(incoming, outgoing)
        except aiohttp.ClientError:
            _cut(incoming)
            return web.Response(status=502)


async def _stream(incoming: web.Request, outgoing: aiohttp.ClientResponse) -> web.StreamResponse:
    """Pass an answer on as it comes: that of a watch has no end."""
    response = web.StreamResponse(status=outgoing.status, headers=_answered(outgoing))
    await response.prepare(incoming)
    async for chunk in outgoing.content.iter_any():
        await response.write(chunk)
    await response.write_eof()
    return response


def _answered(outgoing: aiohttp.ClientResponse) -> dict[str, str]:
    return {name: value for name, value in outgoing.headers.items() if name.lower() not in _HOP}


def _cut(incoming: web.Request) -> None:
    """Close the connection: whoever waits for the answer learns nothing."""
    if incoming.transport is not None:
        incoming.transport.abort()


def _event(fault: Fault) -> web.Response:
    """An API server that has begun to answer a watch tells of an error by an event."""
    line = json.dumps({"type": "ERROR", "object": _failure(fault)}) + "\n"
    return web.Response(status=200, body=line.encode(), content_type="application/json")


def _status(fault: Fault) -> web.Response:
    headers = {"Content-Type": "application/json", **fault.headers}
    return web.Response(status=fault.status, body=json.dumps(_failure(fault)).encode(), headers=headers)


def _failure(fault: Fault) -> dict[str, Any]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": "injected by the test",
        "reason": fault.reason,
        "code": fault.status,
    }
