"""Speaks with a registry, as a client that may write: https://github.com/opencontainers/distribution-spec.

Addresses, TLS, passwords and tokens are handled by the fetcher's code. A token is kept until the registry
refuses it, since it may expire in the middle of a long upload; then one new token is asked for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urljoin

import urllib3

from serval_contract.artifact_reasons import ARTIFACT_NOT_FOUND
from serval_contract.models import DIGEST
from serval_serving.artifacts.errors import (
    ArtifactFailure,
    artifact_not_found,
    push_denied,
    registry_rejected,
    translated,
    unreachable,
)
from serval_serving.artifacts.layer import sha256_of
from serval_serving.fetch.environment import Environment
from serval_serving.fetch.https import Downloader, is_passing
from serval_serving.fetch.oci.access import RegistryAccess
from serval_serving.fetch.oci.login import Login
from serval_serving.fetch.oci.reference import ACCEPT, MAX_MANIFEST_BYTES
from serval_serving.fetch.progress import Deadline, Progress
from serval_serving.fetch.retry import retrying
from serval_serving.fetch.safety.transport import Body, Transport, tls_context
from serval_serving.fetch.sources import HttpsSource, parse_https, public_uri

PULL: Final = "pull"
PUSH: Final = "pull,push"
DELETE: Final = "pull,delete"
CATALOG: Final = "registry:catalog:*"
DEFAULT_MAX_SECONDS: Final = 1800.0
MAX_LIST_BYTES: Final = 4 << 20
MAX_PAGES: Final = 100
PAGE: Final = 1000
"""Names on a page of a list."""
_CONNECT_SECONDS: Final = 20.0
"""Also how long a piece of an upload may be stuck."""
_READ_SECONDS: Final = 120.0
"""A registry compares the digest of a whole layer before it answers."""
_MAX_ANSWER_BYTES: Final = 1 << 16
_CODE: Final = re.compile(r"[A-Z_]{1,40}")
_T = TypeVar("_T")
_NEXT: Final = re.compile(r'<([^>]*)>\s*;\s*rel="?next"?')


@dataclass(frozen=True, slots=True)
class Answer:
    """What a registry answers to one request.

    Attributes
    ----------
    status:
        Of HTTP.
    headers:
        Names in small letters.
    body:
        At most as many bytes of it as were asked for.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def words(self) -> str:
        """Return status and error code for messages; never a registry's own text, which may have secrets."""
        try:
            code = str(json.loads(self.body)["errors"][0]["code"])
        except (ValueError, LookupError, TypeError, RecursionError):
            code = ""
        return f"{self.status} {code}" if _CODE.fullmatch(code) else str(self.status)


@dataclass(frozen=True, slots=True)
class Settings:
    """How a registry is reached.

    Attributes
    ----------
    login:
        User name and password; None without.
    ca_file:
        Authorities to trust beside the system's.
    plain:
        Whether it is reached without TLS.
    max_seconds:
        How long all work may take.
    environment:
        Clock and network.
    """

    login: Login | None = None
    ca_file: Path | None = None
    plain: bool = False
    max_seconds: float = DEFAULT_MAX_SECONDS
    environment: Environment = field(default_factory=Environment)


class RegistryClient:
    """One registry.

    Parameters
    ----------
    registry:
        Host, and port if there is one.
    settings:
        How it is reached.

    Raises
    ------
    ArtifactFailure
        ``RegistryUnreachable`` or ``PushDenied``.
    """

    def __init__(self, registry: str, settings: Settings) -> None:
        environment = settings.environment
        self.registry = registry
        self._plain = settings.plain
        self._sleep = environment.sleep
        self.deadline = Deadline(environment.clock, settings.max_seconds, "the registry was not done")
        with translated():
            timeout = urllib3.Timeout(connect=_CONNECT_SECONDS, read=_READ_SECONDS)
            context = tls_context(settings.ca_file)
            self._transport = Transport(context, environment.resolve, environment.policy, timeout=timeout)
            self._downloader = Downloader(
                self._transport,
                max_bytes=MAX_LIST_BYTES,
                deadline=self.deadline,
                progress=Progress(environment.clock),
                sleep=self._sleep,
            )
            self._access = RegistryAccess(
                registry,
                settings.login,
                self._transport,
                self._downloader,
                deadline=self.deadline,
                sleep=self._sleep,
                plain=settings.plain,
            )
        self._headers: dict[str, dict[str, str]] = {}

    def retried(self, action: Callable[[], _T]) -> _T:
        """Do `action`, again with growing pauses where that may help, each time with a fresh token."""

        def attempt() -> _T:
            self._headers.clear()
            return action()

        return retrying(attempt, self.deadline, self._sleep)

    def at(self, repository: str, path: str) -> HttpsSource:
        """Return the address of a path of a repository."""
        return self._access.at(f"/v2/{self._access.repository(repository)}/{path}")

    def scope(self, repository: str, actions: str) -> str:
        """Return what a token is asked for."""
        return f"repository:{self._access.repository(repository)}:{actions}"

    def renew(self, scope: str) -> None:
        """Ask for a new token before the next request of this scope."""
        self._headers.pop(scope, None)

    def follow(self, where: HttpsSource, location: str) -> HttpsSource:
        """Return where an answer's ``Location`` leads; it may be relative, and may have a query.

        Raises
        ------
        ArtifactFailure
            ``RegistryRejected`` if it is none, or leads from TLS to a place without.
        """
        uri = urljoin(where.uri, location)
        schemes = ("https://", "http://") if where.plain else "https://"
        if not location or not uri.lower().startswith(schemes):
            raise registry_rejected(f"the registry {self.registry} names no usable place for an upload")
        with translated():
            return parse_https(uri, plain=where.plain)

    def send(
        self,
        method: str,
        where: HttpsSource,
        scope: str,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        *,
        most: int = _MAX_ANSWER_BYTES,
    ) -> Answer:
        """Send one request; a second time with a new token if the registry refuses the first.

        The credential is sent to the registry's own host and port only.

        Raises
        ------
        ArtifactFailure
            ``RegistryUnreachable`` if there is no answer; ``PushDenied`` if there is no token.
        """
        answer = self._send(method, where, scope, headers or {}, body, most)
        if answer.status == 401:
            self.renew(scope)
            answer = self._send(method, where, scope, headers or {}, body, most)
        return answer

    def read(self, repository: str, path: str, most: int) -> bytes | None:
        """Return a small file of a repository; None if it is not there.

        Raises
        ------
        ArtifactFailure
            If it cannot be read or has more than `most` bytes.
        """
        with translated():
            headers = {"Accept": ACCEPT} | self._access.authorization(self.scope(repository, PULL))
            where = self.at(repository, path)
        try:
            with translated():
                return self._downloader.read(where, headers=headers, max_bytes=most)
        except ArtifactFailure as error:
            if error.reason == ARTIFACT_NOT_FOUND:
                return None
            raise

    def manifest(self, repository: str, reference: str) -> bytes | None:
        """Return the bytes of a manifest by tag or digest; None if there is none.

        Raises
        ------
        ArtifactFailure
            ``RegistryRejected`` if they do not have the digest that was asked for.
        """
        return self._compared(reference, self.read(repository, f"manifests/{reference}", MAX_MANIFEST_BYTES))

    def blob(self, repository: str, digest: str, most: int) -> bytes:
        """Return a small blob, compared with its digest.

        Raises
        ------
        ArtifactFailure
            If it is not there, too long, or another one.
        """
        data = self._compared(digest, self.read(repository, f"blobs/{digest}", most))
        if data is None:
            raise artifact_not_found(f"{self.registry}/{repository} has no blob {digest}")
        return data

    def tags(self, repository: str) -> list[str] | None:
        """Return the tags of a repository, sorted; None if there is no such repository."""
        where = self.at(repository, f"tags/list?n={PAGE}")
        return self._list(where, self.scope(repository, PULL), "tags")

    def repositories(self) -> list[str] | None:
        """Return the repositories of the registry, sorted; None if it lists none."""
        return self._list(self._access.at(f"/v2/_catalog?n={PAGE}"), CATALOG, "repositories")

    def delete(self, repository: str, digest: str) -> None:
        """Delete a manifest, and with it every tag that leads to it.

        Raises
        ------
        ArtifactFailure
            If there is none, or the registry deletes nothing.
        """
        answer = self.send(
            "DELETE", self.at(repository, f"manifests/{digest}"), self.scope(repository, DELETE)
        )
        if answer.status == 405:
            raise registry_rejected(f"the registry {self.registry} does not allow that images are deleted")
        if answer.status not in (200, 202, 204):
            raise self.refusal(answer, f"{self.registry}/{repository}@{digest} is not deleted")

    def refusal(self, answer: Answer, what: str) -> ArtifactFailure:
        """Return what an answer means that is no success.

        Parameters
        ----------
        what:
            What did not happen, for the message.
        """
        text = f"{what}: the registry answers {answer.words}"
        if answer.status in (401, 403):
            return push_denied(f"{text}: these credentials may not do this, or there are none")
        if is_passing(answer.status):
            return unreachable(text)
        if answer.status == 404:
            return artifact_not_found(f"{text}: there is none, and the registry makes none by itself")
        if answer.status == 507:
            return registry_rejected(f"{text}: it is full", permanent=False)
        if 300 <= answer.status < 400:
            return registry_rejected(f"{text}: redirects are not followed here")
        return registry_rejected(text)

    def _send(
        self,
        method: str,
        where: HttpsSource,
        scope: str,
        headers: Mapping[str, str],
        body: Body | None,
        most: int,
    ) -> Answer:
        with translated():
            self.deadline.check()
            allowed = self._authorization(scope) if self._is_ours(where) else {}
            with self._transport.send(method, where, {**headers, **allowed}, body) as reply:
                data = b"" if method == "HEAD" else reply.read(most)
                found = {name.lower(): value for name, value in reply.headers.items()}
                return Answer(reply.status, found, data)

    def _authorization(self, scope: str) -> dict[str, str]:
        if scope not in self._headers:
            self._headers[scope] = self._access.authorization(scope)
        return self._headers[scope]

    def _is_ours(self, where: HttpsSource) -> bool:
        ours = self._access.at("/")
        return (where.host, where.port, where.plain) == (ours.host, ours.port, ours.plain)

    def _compared(self, reference: str, data: bytes | None) -> bytes | None:
        if data is not None and DIGEST.fullmatch(reference) and sha256_of((data,))[0] != reference:
            raise registry_rejected(f"the registry {self.registry} answers other bytes than {reference}")
        return data

    def _list(self, where: HttpsSource, scope: str, key: str) -> list[str] | None:
        """Read a list, page by page."""
        names: set[str] = set()
        for _ in range(MAX_PAGES):
            answer = self._page(where, scope)
            if answer.status == 404 or (scope == CATALOG and answer.status in (401, 403, 405)):
                return None
            if answer.status != 200:
                raise self.refusal(answer, f"{public_uri(where.uri)} is not read")
            names.update(_texts(answer.body, key))
            following = _NEXT.search(answer.headers.get("link", ""))
            if following is None:
                return sorted(names)
            where = self.follow(where, following[1])
        raise registry_rejected(f"the registry {self.registry} lists more than {MAX_PAGES * PAGE} names")

    def _page(self, where: HttpsSource, scope: str) -> Answer:
        def ask() -> Answer:
            answer = self.send("GET", where, scope, most=MAX_LIST_BYTES)
            if is_passing(answer.status):
                raise self.refusal(answer, f"{public_uri(where.uri)} is not read")
            return answer

        return self.retried(ask)


def _texts(data: bytes, key: str) -> list[str]:
    try:
        return [name for name in json.loads(data)[key] or () if isinstance(name, str) and name.isprintable()]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise registry_rejected("the registry's list is damaged") from error
