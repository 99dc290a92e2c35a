"""Reads the metrics of single pods, over plain HTTP and without any credentials."""

from __future__ import annotations

import logging
from ipaddress import ip_address

import aiohttp
from yarl import URL

from serval_contract.metrics import METRICS_PATH

SECONDS = 1.0
"""All of one request may take so long."""
MOST_BYTES = 1 << 20
"""More is not read; the page of a server with a few models has some ten thousand."""
CHUNK = 1 << 16

_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "serval-operator"}

_log = logging.getLogger(__name__)


class HttpProber:
    """Asks pods at their addresses, each over a connection of its own: a pod is asked once in its life."""

    async def metrics(self, ip: str, port: int) -> str | None:
        """The page, cut at `MOST_BYTES`; None where there is none within `SECONDS`."""
        try:
            # An address and no name: what a pod's status says must not make the operator ask elsewhere.
            url = URL.build(scheme="http", host=str(ip_address(ip)), port=port, path=METRICS_PATH)
            async with (
                aiohttp.ClientSession(
                    timeout=aiohttp.ClientTimeout(total=SECONDS), auto_decompress=False, headers=_HEADERS
                ) as session,
                session.get(url, allow_redirects=False) as response,
            ):
                return await _text(response) if response.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            _log.debug("%s:%d did not answer: %s", ip, port, error or type(error).__name__)
            return None


async def _text(response: aiohttp.ClientResponse) -> str:
    """The body, as far as it may be read."""
    body = b""
    async for chunk in response.content.iter_chunked(CHUNK):
        body += chunk
        if len(body) >= MOST_BYTES:
            break
    return body[:MOST_BYTES].decode("utf-8", "replace")
