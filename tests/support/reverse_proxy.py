"""A real reverse proxy before the API server of the tests, at a path, which can hold requests back."""

from __future__ import annotations

import asyncio
import base64
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

LIMIT = 30
HOP_HEADERS = ("Host", "Connection", "Keep-Alive", "Transfer-Encoding", "Content-Length")
"""Headers of one connection, which are not passed on."""


@dataclass
class Rule:
    """What happens to requests of a method whose path contains a text, from now on.

    Attributes
    ----------
    code:
        The answer; 0 holds the request back until its client closes the connection, or the proxy ends.
    passes:
        Whether a request that is held back reaches the API server, so that only its answer is held back.
    came, closed:
        A request came (and, if it passes, has been answered); its client has closed the connection.
    count:
        Requests so far.
    """

    method: str
    part: str
    code: int = 0
    passes: bool = False
    came: threading.Event = field(default_factory=threading.Event)
    closed: threading.Event = field(default_factory=threading.Event)
    count: int = 0


class ReverseProxy:
    """Passes requests below `prefix` on to the API server of a kubeconfig, watches included.

    Attributes
    ----------
    passed:
        Method, path and whether it is a watch, of each request that was passed on.
    outside:
        Paths of requests that did not begin with the prefix; they get 404.
    """

    def __init__(self, kubeconfig: Path, prefix: str) -> None:
        self._config: dict[str, Any] = yaml.safe_load(kubeconfig.read_text())
        self._cluster = self._config["clusters"][0]["cluster"]
        self.prefix = prefix
        self.rules: list[Rule] = []
        self.passed: list[tuple[str, str, bool]] = []
        self.outside: list[str] = []
        self.url = ""
        self._tasks: set[asyncio.Task[Any]] = set()

    def rule(self, method: str, part: str, code: int = 0) -> Rule:
        """Treat requests in a special way from now on."""
        made = Rule(method, part, code)
        self.rules.append(made)
        return made

    def kubeconfig(self, path: Path, user: dict[str, Any] | None = None) -> Path:
        """Write a kubeconfig that leads through the proxy, with the same user or another one."""
        config = yaml.safe_load(yaml.safe_dump(self._config))
        config["clusters"][0]["cluster"] = {"server": self.url}
        config["users"][0]["user"] = user or config["users"][0]["user"]
        path.write_text(yaml.safe_dump(config))
        return path

    @property
    def token(self) -> str:
        """Token of the kubeconfig's user."""
        found: str = self._config["users"][0]["user"]["token"]
        return found

    async def serve(self, started: threading.Event, stop: asyncio.Event) -> None:
        """Serve until `stop`."""
        self._loop = asyncio.get_running_loop()
        authority = base64.b64decode(self._cluster["certificate-authority-data"]).decode()
        connector = aiohttp.TCPConnector(limit=0, ssl=ssl.create_default_context(cadata=authority))
        async with aiohttp.ClientSession(
            connector=connector, auto_decompress=False, timeout=aiohttp.ClientTimeout(total=None)
        ) as session:
            self._session = session
            application = web.Application()
            application.router.add_route("*", "/{path:.*}", self._answer)
            runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}{self.prefix}"
            started.set()
            await stop.wait()
            await runner.cleanup()

    def hang_up(self) -> None:
        """Close the connections of all requests that are under way, watches included."""
        for task in tuple(self._tasks):
            self._loop.call_soon_threadsafe(task.cancel)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            return await self._treat(request)
        finally:
            self._tasks.discard(task)

    async def _treat(self, request: web.Request) -> web.StreamResponse:
        target = request.rel_url.raw_path_qs
        if not target.startswith(f"{self.prefix}/"):
            self.outside.append(request.path)
            return web.Response(status=404)
        target = target.removeprefix(self.prefix)
        body = await request.read()
        for rule in self.rules:
            if request.method == rule.method and rule.part in target:
                if rule.passes:
                    async with self._send(request, target, body) as found:
                        await found.read()
                return await _treated(rule)
        self.passed.append((request.method, target.partition("?")[0], "watch=" in target))
        async with self._send(request, target, body) as found:
            answer = web.StreamResponse(status=found.status, headers=_end_to_end(found.headers))
            await answer.prepare(request)
            async for chunk in found.content.iter_any():
                await answer.write(chunk)
            await answer.write_eof()
            return answer

    def _send(self, request: web.Request, target: str, body: bytes) -> Any:
        url = URL(self._cluster["server"] + target, encoded=True)
        return self._session.request(
            request.method, url, headers=_end_to_end(request.headers), data=body or None
        )


async def _treated(rule: Rule) -> web.Response:
    rule.count += 1
    rule.came.set()
    if rule.code:
        refusal = {"kind": "Status", "code": rule.code, "reason": "Rule", "message": "refused by a proxy"}
        return web.json_response(refusal, status=rule.code)
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        rule.closed.set()
        raise
    raise AssertionError


def _end_to_end(headers: Any) -> CIMultiDict[str]:
    kept = CIMultiDict(headers)
    for name in HOP_HEADERS:
        kept.popall(name, None)
    return kept


@contextmanager
def reverse_proxy(kubeconfig: Path, prefix: str = "") -> Iterator[ReverseProxy]:
    """Run one in a thread."""
    proxy = ReverseProxy(kubeconfig, prefix)
    started, loop, stop = threading.Event(), asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(proxy.serve(started, stop),))
    thread.start()
    try:
        assert started.wait(LIMIT), "the proxy did not start"
        yield proxy
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(LIMIT)
        assert not thread.is_alive(), "the proxy did not end"
        loop.close()
