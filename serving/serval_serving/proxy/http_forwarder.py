"""Forwards HTTP requests to the upstream server, and its replies unchanged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import aiohttp
from aiohttp import web
from yarl import URL

CONNECT_SECONDS: Final = 5.0

Headers = list[tuple[str, str]]

_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "expect",
        "host",
        "content-length",
    }
)
"""Headers about one connection, and those that are set again for the next one."""
_ENCODING: Final = "content-encoding"
_LENGTH: Final = "Content-Length"
_OURS: Final = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
"""Headers that the client would add to those of the caller."""


class HttpForwarder:
    """Sends requests on. Made in the loop that it is used in.

    Parameters
    ----------
    address:
        `host:port` of the server's HTTP port.
    dropped:
        Names of headers, in small letters, that are not for it.
    """

    def __init__(self, address: str, dropped: Iterable[str] = ()) -> None:
        self._address = address
        # Bodies were unpacked where they came in.
        self._dropped = _HOP | {_ENCODING} | set(dropped)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_OURS,
            auto_decompress=False,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def text(self, path: str, seconds: float) -> str:
        """Get a page; empty where there is none, or no server."""
        try:
            timeout = aiohttp.ClientTimeout(total=seconds)
            async with self._session.get(self._url(path), timeout=timeout) as reply:
                return await reply.text() if reply.ok else ""
        except (aiohttp.ClientError, TimeoutError, UnicodeDecodeError):
            return ""

    async def begin(self, request: web.Request, body: bytes) -> aiohttp.ClientResponse:
        """Send a request on, with a body that is unpacked already; the reply's body is to be read.

        Raises
        ------
        aiohttp.ClientError
            There is no server, or none any more.
        """
        headers = _passed(request.headers, self._dropped)
        try:
            return await self._send(request, headers, body)
        except aiohttp.ClientConnectorError:
            raise
        except aiohttp.ClientConnectionError:
            # A connection that was kept was closed in this moment. Predictions change nothing: once more.
            return await self._send(request, headers, body)

    async def _send(self, request: web.Request, headers: Headers, body: bytes) -> aiohttp.ClientResponse:
        return await self._session.request(
            request.method,
            self._url(request.rel_url.raw_path_qs),
            headers=headers,
            data=body or None,
            allow_redirects=False,
        )

    def _url(self, path: str) -> URL:
        return URL(f"http://{self._address}{path}", encoded=True)


def headed(reply: aiohttp.ClientResponse) -> web.StreamResponse:
    """Make the beginning of an answer: the status and the headers of a reply."""
    response = web.StreamResponse(
        status=reply.status, reason=reply.reason, headers=_passed(reply.headers, _HOP)
    )
    length = reply.headers.get(_LENGTH)
    if length is not None:
        response.headers[_LENGTH] = length
    return response


def _passed(headers: Mapping[str, str], dropped: Iterable[str]) -> Headers:
    """Give the headers that are not about one connection."""
    return [(name, value) for name, value in headers.items() if name.lower() not in dropped]
