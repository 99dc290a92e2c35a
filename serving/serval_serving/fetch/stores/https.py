"""``https://HOST/PATH``: an archive, or where the framework allows it a single file, behind a web server."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, Self

from serval_contract import schemes
from serval_serving.fetch.acquire import SINGLE, Brought, from_file
from serval_serving.fetch.cache.client import through_cache
from serval_serving.fetch.https import Downloader
from serval_serving.fetch.progress import human
from serval_serving.fetch.settings import FetchContext
from serval_serving.fetch.sources import HttpsSource, parse_https
from serval_serving.fetch.stores.base import Store

_LOG: Final = logging.getLogger("serval.fetch")


@dataclass(frozen=True, slots=True)
class HttpsStore(Store):
    """A file behind HTTPS.

    Parameters
    ----------
    source:
        Where it is.
    """

    scheme: ClassVar[schemes.Scheme] = schemes.HTTPS
    source: HttpsSource

    @classmethod
    def parse(cls, uri: str) -> Self:
        """Read an address."""
        return cls(parse_https(uri))

    def bring(self, context: FetchContext, staging: Path) -> Brought:
        """Download the file, and unpack it if it is an archive."""
        downloader = Downloader(
            context.transport(),
            max_bytes=context.settings.max_bytes,
            deadline=context.deadline,
            progress=context.progress,
            sleep=context.environment.sleep,
        )
        archive = staging / SINGLE

        def download() -> str:
            done = downloader.download(self.source, archive)
            _LOG.info("downloaded %s, sha256 %s", human(done.size), done.sha256)
            return done.sha256

        return from_file(context, archive, through_cache(context, archive, download), staging)


STORE: Final = HttpsStore
