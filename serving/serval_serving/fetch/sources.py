"""Reads URIs: those of HTTPS, and what those of all schemes have in common."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

from serval_contract.schemes import Scheme
from serval_serving.fetch.errors import denied, not_found

HTTPS_PORT: Final = 443
HTTP_PORT: Final = 80
_FORBIDDEN: Final = re.compile(r"[\x00-\x20\x7f\\]")
AUTHORITY: Final = re.compile(r"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")
_UNREADABLE: Final = "(unreadable)"


@dataclass(frozen=True, slots=True)
class HttpsSource:
    """A file behind ``https://``, or behind ``http://`` where that was allowed in so many words.

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
    plain:
        Whether it is reached without TLS.
    """

    host: str
    port: int
    target: str
    uri: str
    plain: bool = False

    @property
    def authority(self) -> str:
        """Return host and port as the ``Host`` header wants them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = HTTP_PORT if self.plain else HTTPS_PORT
        return host if self.port == default else f"{host}:{self.port}"


def parse_https(uri: str, *, plain: bool = False) -> HttpsSource:
    """Read an ``https://`` URI.

    Parameters
    ----------
    plain:
        Whether an ``http://`` URI will do as well.

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
    if not host or not uri.isascii() or not AUTHORITY.fullmatch(parts.netloc):
        raise not_found(f"the URI {public_uri(uri)} has no host name in ASCII letters")
    without_tls = plain and parts.scheme == "http"
    default = HTTP_PORT if without_tls else HTTPS_PORT
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return HttpsSource(host, default if port is None else port, target, uri, without_tls)


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
    if not AUTHORITY.fullmatch(authority):
        return f"{scheme}://{_UNREADABLE}"
    return f"{scheme}://{authority}{slash}{path}"


def bare(uri: str, words: str) -> str:
    """Return what follows the scheme of a URI that may have neither query nor fragment.

    Parameters
    ----------
    words:
        How such a URI is written, for the message.

    Raises
    ------
    FetchError
        ``ModelNotFound`` if it holds what it must not.
    """
    _check_characters(uri)
    if "?" in uri or "#" in uri:
        raise not_found(f"{words}, without ? and #")
    return uri.partition("://")[2]


def path_parts(path: str, scheme: Scheme) -> tuple[str, ...]:
    """Return the decoded parts of a path.

    Raises
    ------
    FetchError
        ``ModelNotFound`` if one of them leads elsewhere, or holds a control character.
    """
    parts = tuple(part for part in unquote(path).split("/") if part not in ("", "."))
    if any(part == ".." or _FORBIDDEN.search(part.replace(" ", "")) for part in parts):
        raise not_found(f"the path of a {scheme.prefix} URI holds '..', a backslash or a control character")
    return parts


def _check_characters(uri: str) -> None:
    if _FORBIDDEN.search(uri):
        raise not_found(f"the URI {public_uri(uri)} holds a space, a backslash or a control character")
