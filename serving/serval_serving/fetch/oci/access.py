"""How a registry lets its clients in: without anything, by password, or by tokens of its authority."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlencode

from serval_serving.fetch.errors import denied, unavailable
from serval_serving.fetch.https import Downloader, judge
from serval_serving.fetch.oci.login import HUB_API, HUB_NAMES, Login, basic
from serval_serving.fetch.progress import Deadline
from serval_serving.fetch.retry import retrying
from serval_serving.fetch.safety.transport import Transport
from serval_serving.fetch.sources import HttpsSource, parse_https

MAX_TOKEN_BYTES: Final = 1 << 20
_PARAMETER: Final = re.compile(r'(\w+)="([^"]*)"')


class RegistryAccess:
    """The door of one registry.

    What the registry requires is asked once, by a request without credentials.

    Parameters
    ----------
    registry:
        Host, and port if there is one, as image names have it.
    login:
        User name and password; None without.
    transport:
        Sends one request.
    downloader:
        Reads the answer of the authority.
    deadline:
        When all work must be over.
    sleep:
        Waits for a number of seconds.
    plain:
        Whether the registry is reached without TLS. Its authority may then be, too.

    Raises
    ------
    FetchError
        If the registry does not answer.
    """

    def __init__(
        self,
        registry: str,
        login: Login | None,
        transport: Transport,
        downloader: Downloader,
        *,
        deadline: Deadline,
        sleep: Callable[[float], None],
        plain: bool = False,
    ) -> None:
        self.host = HUB_API if registry in HUB_NAMES else registry
        self._login = login
        self._transport = transport
        self._downloader = downloader
        self._plain = plain
        self._challenge = retrying(self._ask, deadline, sleep)

    def repository(self, path: str) -> str:
        """Return the path of a repository as the registry has it."""
        return f"library/{path}" if self.host == HUB_API and "/" not in path else path

    def at(self, path: str) -> HttpsSource:
        """Return the address of a path of the registry."""
        return parse_https(f"{'http' if self._plain else 'https'}://{self.host}{path}", plain=self._plain)

    def authorization(self, scope: str) -> dict[str, str]:
        """Return the header that lets a request in; with a fresh token, since tokens are short-lived.

        Parameters
        ----------
        scope:
            What a token is asked for, such as ``repository:team/digits:pull``.

        Raises
        ------
        FetchError
            ``ModelAccessDenied`` or ``ModelSourceUnavailable`` if there is no token, or no password where
            one is required.
        """
        kind, _, rest = self._challenge.partition(" ")
        if kind.lower() == "bearer":
            return {"Authorization": f"Bearer {self._token(dict(_PARAMETER.findall(rest)), scope)}"}
        if kind.lower() == "basic" and self._login is None:
            raise denied(f"the registry {self.host} wants a user name and a password")
        return basic(self._login) if kind else {}

    def _ask(self) -> str:
        """Return what the registry requires; empty for nothing."""
        with self._transport.get(self.at("/v2/")) as reply:
            if reply.status == 401:
                return str(reply.headers.get("WWW-Authenticate", ""))
            judge(reply.status, f"the registry {self.host}")
            return ""

    def _token(self, parameters: Mapping[str, str], scope: str) -> str:
        """Ask the registry's own authority for a token."""
        realm = parameters.get("realm", "")
        if not realm.startswith(("https://", "http://") if self._plain else "https://"):
            raise unavailable(f"the registry {self.host} names no authority with https://", again=False)
        query = urlencode({"service": parameters.get("service", ""), "scope": scope})
        where = parse_https(f"{realm}{'&' if '?' in realm else '?'}{query}", plain=self._plain)
        data = self._downloader.read(where, headers=basic(self._login), max_bytes=MAX_TOKEN_BYTES)
        try:
            answer = json.loads(data)
            token = str(answer.get("token") or answer["access_token"])
        except (ValueError, LookupError, AttributeError) as error:
            raise unavailable(f"the authority of the registry {self.host} gives no token") from error
        if not token.isascii() or not token.isprintable():
            raise unavailable(f"the authority of the registry {self.host} gives no token")
        return token
