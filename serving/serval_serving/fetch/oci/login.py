"""User names and passwords of registries, from a Docker configuration as pull secrets hold it."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from serval_serving.fetch.errors import denied

PULL_SECRET: Final = ".dockerconfigjson"
MAX_SECRET_BYTES: Final = 1 << 20
DOCKER_HUB: Final = "docker.io"
HUB_API: Final = "registry-1.docker.io"
HUB_NAMES: Final = frozenset({DOCKER_HUB, f"index.{DOCKER_HUB}", HUB_API})

Login = tuple[str, str]
"""User name and password."""


def read_login(folder: Path | None, registry: str) -> Login | None:
    """Read user name and password for `registry` out of a pull secret; None if there are none.

    Parameters
    ----------
    folder:
        The mounted Secret; None without.
    registry:
        Host, and port if there is one.

    Raises
    ------
    FetchError
        ``ModelAccessDenied`` if the Secret is no pull secret.
    """
    return None if folder is None else read_docker_config(folder / PULL_SECRET, registry)


def read_docker_config(path: Path, registry: str) -> Login | None:
    """Read user name and password for `registry` out of a Docker configuration; None if there are none.

    Raises
    ------
    FetchError
        ``ModelAccessDenied`` if the file cannot be read or is no such configuration.
    """
    try:
        with path.open("rb") as file:
            auths = json.loads(file.read(MAX_SECRET_BYTES))["auths"]
        wanted = HUB_NAMES if registry in HUB_NAMES else {registry}
        entry = next((entry for name, entry in auths.items() if _bare_host(name) in wanted), None)
        return None if entry is None else _login(entry)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, binascii.Error) as error:
        raise denied(f"the Secret has no readable {PULL_SECRET}, as pull secrets do") from error


def basic(login: Login | None) -> dict[str, str]:
    """Return the header that sends a user name and password; none without them."""
    if login is None:
        return {}
    return {"Authorization": "Basic " + base64.b64encode(":".join(login).encode()).decode()}


def _login(entry: Mapping[str, str]) -> Login:
    if entry.get("username"):
        return entry["username"], entry["password"]
    user, _, password = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
    return user, password


def _bare_host(name: str) -> str:
    """Return the host of an entry, which may be written as an address."""
    return name.removeprefix("https://").removeprefix("http://").partition("/")[0]
