"""Credentials for object stores: files of a Secret, or the identity that the cloud gives the pod."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from serval_contract.schemes import Scheme
from serval_serving.fetch.errors import denied

MAX_FILE_BYTES: Final = 1 << 16
ANONYMOUS: Final = "without credentials"
BY_SECRET: Final = "with the credentials of the Secret"
BY_IDENTITY: Final = "with the identity of the pod"

Values = Mapping[str, str]


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


def read_secret(folder: Path | None, scheme: Scheme, keys: Sequence[str]) -> Values:
    """Read what a Secret has under `keys`; nothing without a folder.

    Raises
    ------
    FetchError
        ``ModelAccessDenied`` if a file cannot be used, or none has one of these names.
    """
    if folder is None:
        return {}
    found = {key: _read(folder / key) for key in keys if (folder / key).is_file()}
    if not found:
        raise denied(f"the Secret has none of the keys for {scheme.prefix}: {', '.join(keys)}")
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
