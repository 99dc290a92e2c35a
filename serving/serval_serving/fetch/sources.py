"""Reads the URI of a model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

from serval_serving.fetch.errors import denied, not_found

HTTPS_PORT: Final = 443
HTTP_PORT: Final = 80
AZURE: Final = "azureblob"
S3: Final = "s3"
GS: Final = "gs"
OCI: Final = "oci"
HTTPS: Final = "https"
PVC: Final = "pvc"
SCHEMES: Final = (PVC, HTTPS, AZURE, S3, GS, OCI)
DEFAULT_TAG: Final = "latest"
_FORBIDDEN: Final = re.compile(r"[\x00-\x20\x7f\\]")
_AUTHORITY: Final = re.compile(r"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")
_ACCOUNT: Final = re.compile(r"[a-z0-9]{3,24}")
_BUCKET: Final = re.compile(r"[$a-z0-9]([a-z0-9._-]{0,220}[a-z0-9])?")
_REPOSITORY: Final = re.compile(r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*")
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
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


@dataclass(frozen=True, slots=True)
class StoreSource:
    """A folder or file in an object store.

    Attributes
    ----------
    scheme:
        `AZURE`, `S3` or `GS`.
    account:
        Storage account; empty but for Azure.
    bucket:
        Bucket or container.
    key:
        The path inside it, without slashes at its ends; empty for all of it.
    """

    scheme: str
    account: str
    bucket: str
    key: str

    @property
    def container(self) -> str:
        """Return the address without the path, for messages."""
        return f"{self.scheme}://{self.account + '/' if self.account else ''}{self.bucket}"


@dataclass(frozen=True, slots=True)
class ImageSource:
    """An image in a registry.

    Attributes
    ----------
    registry:
        Host, and port where there is one.
    repository:
        Path of the repository.
    tag:
        Tag; empty where only the digest is given.
    digest:
        ``sha256:<hex>`` of the manifest; empty where only the tag is given.
    """

    registry: str
    repository: str
    tag: str
    digest: str

    @property
    def reference(self) -> str:
        """Return what the registry is asked for: the digest where there is one, else the tag."""
        return self.digest or self.tag

    @property
    def uri(self) -> str:
        """Return the whole, for messages."""
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{OCI}://{self.registry}/{self.repository}{tag}{digest}"


Source = HttpsSource | VolumeSource | StoreSource | ImageSource


def parse_source(uri: str) -> Source:
    """Read `uri`.

    Raises
    ------
    FetchError
        If the scheme is unknown, a part is malformed, or the URI carries a user name or password.
    """
    scheme = uri.partition(":")[0].lower()
    if scheme == HTTPS:
        return parse_https(uri)
    if scheme == PVC:
        return _volume(uri)
    if scheme in (AZURE, S3, GS):
        return _store(scheme, uri)
    if scheme == OCI:
        return _image(uri)
    known = ", ".join(f"{one}://" for one in SCHEMES)
    raise not_found(f"the URI {public_uri(uri)} begins with none of {known}")


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
    if not host or not uri.isascii() or not _AUTHORITY.fullmatch(parts.netloc):
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
    if not _AUTHORITY.fullmatch(authority):
        return f"{scheme}://{_UNREADABLE}"
    return f"{scheme}://{authority}{slash}{path}"


def _volume(uri: str) -> VolumeSource:
    """Read a ``pvc://claim/path`` URI."""
    claim, _, path = _bare(uri, "a volume is written pvc://claim/path").partition("/")
    if not claim:
        raise not_found("a volume is written pvc://claim/path")
    return VolumeSource(claim, _parts(path, PVC))


def _store(scheme: str, uri: str) -> StoreSource:
    """Read a URI of an object store."""
    form = f"{scheme}://{'account/container' if scheme == AZURE else 'bucket'}/path"
    words = f"a model in an object store is written {form}"
    rest = _bare(uri, words)
    account = ""
    if scheme == AZURE:
        account, _, rest = rest.partition("/")
        if not _ACCOUNT.fullmatch(account):
            raise not_found(f"{words}; a storage account's name has 3 to 24 small letters and digits")
    bucket, _, path = rest.partition("/")
    if not _BUCKET.fullmatch(bucket) or ".." in bucket:
        raise not_found(f"{words}; this one names no {'container' if account else 'bucket'}")
    return StoreSource(scheme, account, bucket, "/".join(_parts(path, scheme)))


def _image(uri: str) -> ImageSource:
    """Read an ``oci://registry/repository:tag@digest`` URI."""
    words = "an image is written oci://registry/repository:tag, with @sha256:... in addition or in its place"
    registry, _, rest = _bare(uri, words).partition("/")
    name, at, digest = rest.partition("@")
    repository, colon, tag = name.partition(":")
    sound = _AUTHORITY.fullmatch(registry) and _REPOSITORY.fullmatch(repository) and len(repository) < 256
    if not sound or (colon and not _TAG.fullmatch(tag)) or (at and not _DIGEST.fullmatch(digest)):
        raise not_found(words)
    return ImageSource(registry, repository, tag or ("" if digest else DEFAULT_TAG), digest)


def _bare(uri: str, words: str) -> str:
    """Return what follows the scheme of a URI that may have neither query nor fragment."""
    _check_characters(uri)
    if "?" in uri or "#" in uri:
        raise not_found(f"{words}, without ? and #")
    return uri.partition("://")[2]


def _parts(path: str, scheme: str) -> tuple[str, ...]:
    """Return the decoded parts of a path."""
    parts = tuple(part for part in unquote(path).split("/") if part not in ("", "."))
    if any(part == ".." or _FORBIDDEN.search(part.replace(" ", "")) for part in parts):
        raise not_found(f"the path of a {scheme}:// URI holds '..', a backslash or a control character")
    return parts


def _check_characters(uri: str) -> None:
    if _FORBIDDEN.search(uri):
        raise not_found(f"the URI {public_uri(uri)} holds a space, a backslash or a control character")
