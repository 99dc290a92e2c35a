"""A scripted API server on loopback: it answers what a test told it, in order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

Answer = dict[str, Any] | Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Asked:
    """One request as the server got it."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass
class Script:
    """Answers requests in order with what was said, and with the last answer for ever."""

    url: str = ""
    answers: list[Answer] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)

    def says(self, *answers: Answer) -> None:
        """What to answer from now on: JSON, or a handler."""
        self.answers = list(answers)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer a request."""
        text = await request.text()
        headers = dict(request.headers)
        body = json.loads(text) if text else None
        self.asked.append(Asked(request.method, request.path, dict(request.query), headers, body))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return web.json_response(answer) if isinstance(answer, dict) else await answer(request)


@asynccontextmanager
async def scripted() -> AsyncIterator[Script]:
    """Run a scripted API server."""
    script = Script()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", script.answer)
    server = TestServer(application, host="127.0.0.1")
    await server.start_server()
    script.url = str(server.make_url("")).rstrip("/")
    try:
        yield script
    finally:
        await server.close()


def refusal(code: int, reason: str = "Because", message: str = "words", **details: Any) -> Answer:
    """An API server's Status."""
    body = {"kind": "Status", "code": code, "reason": reason, "message": message, "details": details}
    return raw(json.dumps(body), code)


def raw(text: str, code: int = 200, headers: dict[str, str] | None = None) -> Answer:
    """An answer of any text."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=text, status=code, headers=headers, content_type="application/json")

    return answer


async def hang(_: web.Request) -> web.Response:
    """Never answer."""
    await asyncio.Event().wait()
    raise AssertionError


async def cut(request: web.Request) -> web.Response:
    """Close the connection in the middle of the answer."""
    response = web.StreamResponse(headers={"Content-Length": "100"})
    await response.prepare(request)
    await response.write(b'{"half": ')
    assert request.transport is not None
    request.transport.close()
    return web.Response()


def objects(*items: dict[str, Any], version: str = "7", more: str = "") -> Answer:
    """A page of a LIST."""
    metadata = {"resourceVersion": version} | ({"continue": more} if more else {})
    return {"kind": "List", "metadata": metadata, "items": list(items)}
