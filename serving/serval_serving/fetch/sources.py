"""Reads the URI of a model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

from serval_serving.fetch.errors import denied, not_found

HTTPS_PORT: Final = 443
_FORBIDDEN: Final = re.compile(r"[\x00-\x20\x7f\\]")
_AUTHORITY: Final = re.compile(r"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")
_UNREADABLE: Final = "(unreadable)"


@dataclass(frozen=True, slots=True)
class HttpsSource:
    """A file behind ``https://``.

    Attributes
    ----------
    host:
        Name or address, without brackets.
    port:
        TCP port.
    target:
        Path and query as they are sent. May hold a secret: use `public_uri` in messages.
    uri:
        The whole, for resolving a redirect against it. May hold a secret.
    """

    host: str
    port: int
    target: str
    uri: str

    @property
    def authority(self) -> str:
        """Return host and port as the ``Host`` header wants them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == HTTPS_PORT else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class VolumeSource:
    """A folder in a mounted volume.

    Attributes
    ----------
    claim:
        Name of the PersistentVolumeClaim, for messages.
    parts:
        The path inside it; empty for its root.
    """

    claim: str
    parts: tuple[str, ...]

    @property
    def path(self) -> str:
        """Return the path inside the volume, for messages."""
        return "/" + "/".join(self.parts)


def parse_source(uri: str) -> HttpsSource | VolumeSource:
    """Read `uri`.

    Raises
    ------
    FetchError
        If the scheme is unknown, a part is malformed, or the URI carries a user name or password.
    """
    scheme = uri.partition(":")[0].lower()
    if scheme == "https":
        return parse_https(uri)
    if scheme == "pvc":
        return _volume(uri)
    raise not_found(f"the URI {public_uri(uri)} is neither https:// nor pvc://")


def parse_https(uri: str) -> HttpsSource:
    """Read an ``https://`` URI.

    Raises
    ------
    FetchError
        If a part is malformed, or the URI carries a user name or password.
    """
    _check_characters(uri)
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise not_found(f"the URI {public_uri(uri)} cannot be read") from error
    if parts.username is not None or parts.password is not None:
        raise denied(f"the URI of {public_uri(uri)} carries a user name or password; it must not")
    if not host or not uri.isascii() or not _AUTHORITY.fullmatch(parts.netloc):
        raise not_found(f"the URI {public_uri(uri)} has no host name in ASCII letters")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return HttpsSource(host, HTTPS_PORT if port is None else port, target, uri)


def public_uri(uri: str) -> str:
    """Return `uri` as it may be shown: without user information, query and fragment.

    It never fails: what cannot be read with certainty is replaced, not shown.
    """
    bare = re.split(r"[?#]", uri, maxsplit=1)[0]
    scheme, separator, rest = bare.partition("://")
    if not separator or not scheme.isalnum():
        return _UNREADABLE
    authority, slash, path = rest.partition("/")
    authority = authority.rpartition("@")[2]
    if not _AUTHORITY.fullmatch(authority):
        return f"{scheme}://{_UNREADABLE}"
    return f"{scheme}://{authority}{slash}{path}"


def _volume(uri: str) -> VolumeSource:
    """Read a ``pvc://claim/path`` URI."""
    _check_characters(uri)
    claim, _, path = uri.partition("://")[2].partition("/")
    if not claim or "?" in uri or "#" in uri:
        raise not_found("a volume is written pvc://claim/path, without ? and #")
    parts = tuple(part for part in unquote(path).split("/") if part not in ("", "."))
    if any(part == ".." or _FORBIDDEN.search(part.replace(" ", "")) for part in parts):
        raise not_found("the path of a pvc:// URI holds '..', a backslash or a control character")
    return VolumeSource(claim, parts)


def _check_characters(uri: str) -> None:
    if _FORBIDDEN.search(uri):
        raise not_found(f"the URI {public_uri(uri)} holds a space, a backslash or a control character")
