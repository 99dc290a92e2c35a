"""Reads pages of single pods (metrics, progress), over plain HTTP and without any credentials."""

from __future__ import annotations

import logging
from ipaddress import ip_address

import aiohttp
from yarl import URL

from serval_contract.metrics import METRICS_PATH
from serval_contract.progress import MAX_PAGE_BYTES, PROGRESS_PATH

SECONDS = 1.0
"""All of one request may take so long."""
MOST_BYTES = 1 << 20
"""More of the metrics is not read; the page of a server with a few models has some ten thousand."""
MOST_STATUS_BYTES = 1 << 16
"""More of a model's status is not read; it has a few lines for each version."""
MODELS_PATH = "/v1/models/"
CHUNK = 1 << 16

_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "serval-operator"}

_log = logging.getLogger(__name__)


class HttpProber:
    """Asks pods at their addresses, each time over another connection: a pod is asked rarely."""

    async def metrics(self, ip: str, port: int) -> str | None:
        """The page of metrics, cut at `MOST_BYTES`; None where there is none within `SECONDS`."""
        return await self._page(ip, port, METRICS_PATH, MOST_BYTES)

    async def progress(self, ip: str, port: int) -> str | None:
        """The progress page of a Job's stage, cut where it is too long; None where there is none in time."""
        return await self._page(ip, port, PROGRESS_PATH, MAX_PAGE_BYTES + 1)

    async def status(self, ip: str, port: int, model: str) -> str | None:
        """The model's status as TensorFlow Serving's REST API has it; None where there is none in time."""
        return await self._page(ip, port, f"{MODELS_PATH}{model}", MOST_STATUS_BYTES)

    @staticmethod
    async def _page(ip: str, port: int, path: str, most: int) -> str | None:
        try:
            # An address and no name: what a pod's status says must not make the operator ask elsewhere.
            url = URL.build(scheme="http", host=str(ip_address(ip)), port=port, path=path)
            async with (
                aiohttp.ClientSession(
                    timeout=aiohttp.ClientTimeout(total=SECONDS), auto_decompress=False, headers=_HEADERS
                ) as session,
                session.get(url, allow_redirects=False) as response,
            ):
                return await _text(response, most) if response.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            _log.debug("%s:%d did not answer: %s", ip, port, error or type(error).__name__)
            return None


async def _text(response: aiohttp.ClientResponse, most: int) -> str:
    """The body, as far as it may be read."""
    body = b""
    async for chunk in response.content.iter_chunked(CHUNK):
        body += chunk
        if len(body) >= most:
            break
    return body[:most].decode("utf-8", "replace")
