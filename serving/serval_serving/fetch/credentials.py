"""Credentials for object stores: files of a Secret, or the identity that the cloud gives the pod."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from serval_contract.schemes import Scheme
from serval_serving.fetch.errors import denied
from serval_serving.fetch.sources import AUTHORITY

MAX_FILE_BYTES: Final = 1 << 16
ANONYMOUS: Final = "without credentials"
BY_SECRET: Final = "with the credentials of the Secret"
BY_IDENTITY: Final = "with the identity of the pod"

Values = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Form:
    """What the value of a setting looks like.

    The library ends the process, without a message, for some values that can be in no request. So every value
    is checked before the library gets it.

    Attributes
    ----------
    fits:
        Whether a value has this form.
    words:
        The form, for messages, after "must be".
    """

    fits: Callable[[str], bool]
    words: str


Forms = Mapping[str, Form]
"""The settings of a store, by the keys of its Secret or the names of environment variables."""


def _is_endpoint(text: str) -> bool:
    """Whether `text` is a URL of a server, perhaps with a path."""
    match = _ENDPOINT.fullmatch(text)
    if match is None:
        return False
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    name = (parts.hostname or "").rstrip(".")
    # A name that ends in a number is read as an address of four numbers.
    number = ":" not in name and name.rpartition(".")[2].isdigit() and not _IPV4.fullmatch(name)
    return bool(AUTHORITY.fullmatch(parts.netloc)) and bool(name) and not number and port != 0


def _is_object(text: str) -> bool:
    """Whether `text` is a JSON object whose addresses are URLs."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and all(
        isinstance(document[name], str) and _is_endpoint(document[name])
        for name in ("token_uri", "gcs_base_url")
        if document.get(name)
    )


_IN_PATH: Final = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})"
_ENDPOINT: Final = re.compile(rf"https?://[^/?#]+(?:/{_IN_PATH}*)?", re.IGNORECASE)
_OCTET: Final = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
_IPV4: Final = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}")
ENDPOINT: Final = Form(
    _is_endpoint, "a URL with http:// or https:// and a host, such as https://minio.models.svc:9000"
)
VISIBLE: Final = Form(
    lambda text: re.fullmatch("[!-~]+", text) is not None, "visible ASCII characters without spaces"
)
NAME: Final = Form(
    lambda text: re.fullmatch("[A-Za-z0-9][A-Za-z0-9._-]*", text) is not None,
    "letters, digits, '.', '_' and '-'",
)
BASE64: Final = Form(
    lambda text: re.fullmatch("[A-Za-z0-9+/]+={0,2}", text) is not None and len(text) % 4 == 0,
    "base64 in one line",
)
QUERY: Final = Form(
    lambda text: re.fullmatch(r"\??[!-%'-<>-~]+=[!-~]+", text) is not None,
    "a query of the form se=...&sig=... without spaces",
)
JSON: Final = Form(_is_object, "the JSON of a service account's key")
TEXT: Final = Form(str.isprintable, "one line of text")
ANY: Final = Form(lambda _: True, "any text")


def check(values: Values, forms: Forms) -> None:
    """Check those of `values` that have a form. An empty one counts as absent.

    Raises
    ------
    FetchError
        ``ModelAccessDenied`` with the name of the first malformed value and its form, never the value.
    """
    for name, form in forms.items():
        text = values.get(name)
        if text and not form.fits(text):
            raise denied(f"the value of {name} is malformed: it must be {form.words}")


@dataclass(frozen=True, slots=True)
class Access:
    """How a store is reached.

    Attributes
    ----------
    config:
        The library's settings, except for the name of the bucket. Holds secrets.
    plain:
        Whether the Secret names an endpoint without TLS.
    exempt:
        Hosts of the pod's identity, which are reached whatever their address is.
    shown:
        As whom, for messages.
    """

    config: dict[str, Any]
    plain: bool = False
    exempt: frozenset[str] = frozenset()
    shown: str = ANONYMOUS


def read_secret(folder: Path | None, scheme: Scheme, keys: Forms) -> Values:
    """Read what a Secret has under `keys`; nothing without a folder.

    Raises
    ------
    FetchError
        ``ModelAccessDenied`` if a file cannot be used or is malformed, or none has one of these names.
    """
    if folder is None:
        return {}
    found = {key: _read(folder / key) for key in keys if (folder / key).is_file()}
    if not found:
        raise denied(f"the Secret has none of the keys for {scheme.prefix}: {', '.join(keys)}")
    check(found, keys)
    return found


def needed(values: Values, names: Mapping[str, str]) -> dict[str, str]:
    """Return the library's settings for `names`, all of which must be there.

    Raises
    ------
    FetchError
        ``ModelAccessDenied`` if one is missing.
    """
    missing = [name for name in names if not values.get(name)]
    if missing:
        raise denied(f"the credentials lack {', '.join(missing)}")
    return {setting: values[name] for name, setting in names.items()}


def given(values: Values, names: Mapping[str, str]) -> dict[str, str]:
    """Return the library's settings for those of `names` that are there."""
    return {setting: values[name] for name, setting in names.items() if values.get(name)}


def is_plain(endpoint: str) -> bool:
    """Return whether an endpoint is reached without TLS."""
    return endpoint.lower().startswith("http://")


def _read(path: Path) -> str:
    """Read one file of a Secret. Its content is never shown."""
    try:
        data = path.read_bytes()
        if len(data) <= MAX_FILE_BYTES:
            return data.decode("utf-8").strip()
    except OSError as error:
        raise denied(f"the key {path.name} of the Secret cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        pass
    raise denied(f"the key {path.name} of the Secret is no text of at most {MAX_FILE_BYTES} bytes")
