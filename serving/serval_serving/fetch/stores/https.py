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
from serval_serving.fetch.settings import Work
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

    def bring(self, work: Work, staging: Path) -> Brought:
        """Download the file, and unpack it if it is an archive."""
        downloader = Downloader(
            work.transport(),
            max_bytes=work.settings.max_bytes,
            deadline=work.deadline,
            progress=work.progress,
            sleep=work.surroundings.sleep,
        )
        archive = staging / SINGLE

        def download() -> str:
            done = downloader.download(self.source, archive)
            _LOG.info("downloaded %s, sha256 %s", human(done.size), done.sha256)
            return done.sha256

        return from_file(work, archive, through_cache(work, archive, download), staging)


STORE: Final = HttpsStore
