"""Downloads one file over HTTPS: redirects, caps, digest, and another try where one may help."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urljoin

import urllib3

from serval_serving.fetch.errors import denied, from_os_error, not_found, too_large, unavailable
from serval_serving.fetch.progress import Deadline, Progress, human
from serval_serving.fetch.retry import retrying
from serval_serving.fetch.safety.transport import Transport
from serval_serving.fetch.sources import HttpsSource, parse_https, public_uri

MAX_REDIRECTS: Final = 5
CHUNK_BYTES: Final = 1 << 18
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_GONE: Final = frozenset({404, 410})
_DENIED: Final = frozenset({401, 403, 407})
_PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Download:
    """A file that arrived.

    Attributes
    ----------
    size:
        Bytes.
    sha256:
        Digest of the bytes, hexadecimal.
    """

    size: int
    sha256: str


class Downloader:
    """Downloads files.

    Parameters
    ----------
    transport:
        Sends one request.
    max_bytes:
        Longest file that is accepted.
    deadline:
        When the whole fetch must be over.
    progress:
        Is told of every piece.
    sleep:
        Waits for a number of seconds.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        max_bytes: int,
        deadline: Deadline,
        progress: Progress,
        sleep: Callable[[float], None],
    ) -> None:
        self._transport = transport
        self._max_bytes = max_bytes
        self._deadline = deadline
        self._progress = progress
        self._sleep = sleep

    def download(
        self,
        source: HttpsSource,
        to: Path,
        *,
        headers: Mapping[str, str] | None = None,
        max_bytes: int | None = None,
    ) -> Download:
        """Write the file at `source` to `to`, trying again where that may help.

        Parameters
        ----------
        source:
            What to download.
        to:
            Where it goes.
        headers:
            More headers, such as credentials. They do not follow a redirect to another host.
        max_bytes:
            A lower limit than that of all files, where the length is known.

        Raises
        ------
        FetchError
            If the file cannot be had, is too long, or the time is up.
        """
        most = self._max_bytes if max_bytes is None else min(max_bytes, self._max_bytes)

        def save(reply: urllib3.BaseHTTPResponse) -> Download:
            try:
                with to.open("wb") as file:
                    return self._copy(reply, file.write, most)
            except OSError as error:
                raise from_os_error(error, "the download", to.parent) from error

        return self._again(source, headers, save)

    def read(self, source: HttpsSource, *, headers: Mapping[str, str] | None = None, max_bytes: int) -> bytes:
        """Return the bytes of a small file at `source`; the rest is as for `download`.

        Raises
        ------
        FetchError
            As `download` does.
        """

        def collect(reply: urllib3.BaseHTTPResponse) -> bytes:
            data = bytearray()
            self._copy(reply, data.extend, max_bytes)
            return bytes(data)

        return self._again(source, headers, collect)

    def _again(
        self,
        source: HttpsSource,
        headers: Mapping[str, str] | None,
        consume: Callable[[urllib3.BaseHTTPResponse], _T],
    ) -> _T:
        return retrying(lambda: self._follow(source, headers or {}, consume), self._deadline, self._sleep)

    def _follow(
        self,
        source: HttpsSource,
        headers: Mapping[str, str],
        consume: Callable[[urllib3.BaseHTTPResponse], _T],
    ) -> _T:
        """Ask once, following redirects; return what `consume` makes of the answer."""
        first = source
        for _ in range(MAX_REDIRECTS + 1):
            self._deadline.check()
            same = (source.host, source.port, source.plain) == (first.host, first.port, first.plain)
            with self._transport.get(source, headers if same else None) as reply:
                if reply.status not in _REDIRECTS:
                    judge(reply.status, public_uri(source.uri))
                    return consume(reply)
                source = _redirect(reply, source)
        last = public_uri(source.uri)
        raise unavailable(f"more than {MAX_REDIRECTS} redirects, the last to {last}", again=False)

    def _copy(
        self, reply: urllib3.BaseHTTPResponse, write: Callable[[bytes], object], max_bytes: int
    ) -> Download:
        """Give the body to `write`, counting and hashing on the way."""
        length = reply.headers.get("Content-Length", "")
        expected = int(length) if length.isascii() and length.isdigit() else None
        if expected is not None and expected > max_bytes:
            raise too_large(f"the file has {human(expected)}; at most {human(max_bytes)} are allowed")
        self._progress.start("downloaded", expected)
        digest = hashlib.sha256()
        size = 0
        while chunk := reply.read1(CHUNK_BYTES):
            self._deadline.check()
            size += len(chunk)
            if size > max_bytes:
                raise too_large(f"the file has more than the {human(max_bytes)} allowed")
            digest.update(chunk)
            write(chunk)
            self._progress.add(len(chunk))
        return Download(size, digest.hexdigest())


def judge(status: int, where: str) -> None:
    """Raise what the HTTP `status` means; return for 200.

    Raises
    ------
    FetchError
        Of the reason that fits, and naming `where`.
    """
    if status == 200:
        return
    if status in _GONE:
        raise not_found(f"{where} answers {status}: there is no such file")
    if status in _DENIED:
        raise denied(f"{where} answers {status}: access denied")
    raise unavailable(f"{where} answers {status}", again=is_passing(status))


def is_passing(status: int) -> bool:
    """Return whether an HTTP `status` says that another try may help."""
    return status in _PASSING


def _redirect(reply: urllib3.BaseHTTPResponse, source: HttpsSource) -> HttpsSource:
    """Return where the reply sends us, judged as the first URI was."""
    location = reply.headers.get("Location", "")
    origin = public_uri(source.uri)
    if not location:
        raise unavailable(f"{origin} answers {reply.status} without saying where to", again=False)
    uri = urljoin(source.uri, location)
    if not uri.lower().startswith(("https://", "http://") if source.plain else "https://"):
        raise denied(f"{origin} redirects to {public_uri(uri)}; only https:// is followed")
    return parse_https(uri, plain=source.plain)
