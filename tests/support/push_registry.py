"""A registry in the test's own process, which can be pushed to and misbehaves where a test says so.

It is as strict as the distribution specification: digests are compared, a manifest's blobs must be there,
pieces of an upload must follow each other, and a token allows what its scope says and its user may do.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from unit.serving.fetch.tls import Pki

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DROP = 0
"""In place of a status: the connection is closed without an answer."""
_PATH = re.compile(r"/v2/(?P<repository>.+)/(?P<kind>blobs/uploads|blobs|manifests|tags)/(?P<name>[^/]*)")


def sha256(data: bytes) -> str:
    """Return a digest as registries write it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass
class User:
    """Somebody who may do something.

    Attributes
    ----------
    password
        Of the user.
    may
        Actions by repository; the one of ``*`` holds for all others.
    """

    password: str
    may: Mapping[str, frozenset[str]]


@dataclass
class Fault:
    """What goes wrong once, at the first request that fits.

    Attributes
    ----------
    method, path
        Of the request; `path` is a part of it.
    status
        What is answered; `DROP` for nothing.
    code
        Error code of the answer's body.
    """

    method: str
    path: str
    status: int
    code: str = ""


@dataclass
class PushRegistry:
    """What the registry holds, does, and was asked.

    Attributes
    ----------
    users
        By name. Without any, everybody may do everything.
    basic
        Whether it asks for the password at each request, not for a token.
    token_uses
        Requests that one token is good for; None for all.
    relative
        Whether its Locations are paths.
    query
        What its Locations have behind the question mark.
    uploads_at
        ``HOST:PORT`` of the server that its Locations lead to; empty for itself.
    most
        Longest body that it takes; longer ones are answered by 413.
    least_piece
        Value of ``OCI-Chunk-Min-Length``; 0 for no such header.
    lies
        Whether the digest that it names for a manifest is another one.
    swaps
        Whether it stores other bytes under a tag than were sent.
    deletes
        Whether images may be deleted.
    abrupt
        Whether a refusal closes the connection with the body unread, so that the client may not see it.
    page
        Names on a page of a list.
    faults
        What goes wrong, each once.
    """

    users: dict[str, User] = field(default_factory=dict)
    basic: bool = False
    token_uses: int | None = None
    relative: bool = False
    query: str = ""
    uploads_at: str = ""
    most: int | None = None
    least_piece: int = 0
    lies: bool = False
    swaps: bool = False
    deletes: bool = True
    abrupt: bool = False
    page: int = 1000
    faults: list[Fault] = field(default_factory=list)
    host: str = ""
    tls: bool = True
    blobs: dict[tuple[str, str], bytes] = field(default_factory=dict)
    manifests: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)
    uploads: dict[str, bytearray] = field(default_factory=dict)
    tokens: dict[str, tuple[int, dict[str, set[str]]]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    """Method and path of each request."""
    authorizations: list[str] = field(default_factory=list)
    """Header ``Authorization`` of each request, empty without."""
    scopes: list[str] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Return its address."""
        return f"http{'s' if self.tls else ''}://{self.host}"

    def asked(self, method: str, part: str = "") -> list[str]:
        """Return the paths of the requests of a method that have a part in them."""
        lines = (line.split(" ", 1) for line in self.requests)
        return [path for made, path in lines if made == method and part in path]

    def tag(self, repository: str, tag: str) -> bytes:
        """Return a manifest by tag or digest."""
        return self.manifests[repository, tag][1]

    def token(self, user: str | None, scopes: list[str]) -> str:
        """Make a token that allows what the scopes ask for and the user may do."""
        granted: dict[str, set[str]] = {}
        for scope in scopes:
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            granted[f"{kind}:{name}"] = set(actions.split(",")) & self.allowed(user, name)
        text = f"token-{len(self.tokens)}"
        self.tokens[text] = (0, granted)
        return text

    def allowed(self, user: str | None, repository: str) -> frozenset[str]:
        """Return the actions that a user may do in a repository; None is nobody."""
        if not self.users:
            return frozenset({"pull", "push", "delete", "*"})
        if user is None:
            return frozenset()
        may = self.users[user].may
        return may.get(repository, may.get("*", frozenset()))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    registry: PushRegistry

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def do_GET(self) -> None:
        self._handle()

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

    # --- answers ---------------------------------------------------------------------------------

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self, status: int, code: str = "UNKNOWN") -> None:
        """Refuse, and end the connection, as registries do that do not read a body in vain."""
        self._end()
        body = {"errors": [{"code": code, "message": "secret words of the registry"}]}
        self._answer(status, json.dumps(body).encode(), Connection="close")

    def _end(self) -> None:
        """End the connection after the answer. What is left of a body is read, so that the answer arrives."""
        self.close_connection = True
        if self.registry.abrupt is False:
            self._body()

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    # --- requests --------------------------------------------------------------------------------

    def _handle(self) -> None:
        registry = self.registry
        registry.requests.append(f"{self.command} {self.path}")
        registry.authorizations.append(self.headers.get("Authorization", ""))
        registry.hosts.append(self.headers.get("Host", ""))
        url = urlsplit(self.path)
        for fault in registry.faults:
            if fault.method == self.command and fault.path in self.path:
                registry.faults.remove(fault)
                if fault.status == DROP:
                    self.close_connection = True
                else:
                    self._refuse(fault.status, fault.code)
                return
        if url.path == "/token":
            self._token(parse_qs(url.query).get("scope", []))
            return
        found = _PATH.fullmatch(url.path)
        repository = found["repository"] if found else ""
        action = {"GET": "pull", "HEAD": "pull", "DELETE": "delete"}.get(self.command, "push")
        if not self._is_let_in(repository, action, url.path):
            return
        length = int(self.headers.get("Content-Length") or 0)
        if registry.most is not None and length > registry.most:
            self._refuse(413, "SIZE_INVALID")
        elif url.path == "/v2/":
            self._answer(200, b"{}")
        elif url.path == "/v2/_catalog":
            self._names("repositories", sorted({name for name, _ in registry.manifests}), url.query)
        elif found is None:
            self._refuse(404)
        else:
            getattr(self, f"_{found['kind'].replace('/', '_')}")(repository, found["name"], url.query)

    def _token(self, scopes: list[str]) -> None:
        registry = self.registry
        user = self._user()
        if registry.users and user is None:
            self._refuse(401, "UNAUTHORIZED")
            return
        registry.scopes += scopes
        self._answer(200, json.dumps({"token": registry.token(user, scopes)}).encode())

    def _user(self) -> str | None:
        kind, _, rest = self.headers.get("Authorization", "").partition(" ")
        if kind != "Basic":
            return None
        name, _, password = base64.b64decode(rest).decode().partition(":")
        user = self.registry.users.get(name)
        return name if user is not None and user.password == password else None

    def _is_let_in(self, repository: str, action: str, path: str) -> bool:
        registry = self.registry
        if not registry.users:
            return True
        if registry.basic:
            user = self._user()
            if user is None:
                self._end()
                self._answer(401, WWW_Authenticate='Basic realm="r"', Connection="close")
            elif path != "/v2/" and action not in registry.allowed(user, repository):
                self._refuse(403, "DENIED")
            else:
                return True
            return False
        text = self.headers.get("Authorization", "").removeprefix("Bearer ")
        uses, granted = registry.tokens.get(text, (0, {}))
        wanted = ("registry:catalog", "*") if "_catalog" in path else (f"repository:{repository}", action)
        good = registry.token_uses is None or uses < registry.token_uses
        if text in registry.tokens and good and (path == "/v2/" or wanted[1] in granted.get(wanted[0], ())):
            registry.tokens[text] = (uses + 1, granted)
            return True
        challenge = f'Bearer realm="{registry.url}/token",service="the registry"'
        self._end()
        self._answer(401, WWW_Authenticate=challenge, Connection="close")
        return False

    # --- blobs -----------------------------------------------------------------------------------

    def _blobs(self, repository: str, digest: str, _query: str) -> None:
        data = self.registry.blobs.get((repository, digest))
        if data is None:
            self._answer(404)
        else:
            self._answer(200, data, Docker_Content_Digest=digest)

    def _blobs_uploads(self, repository: str, session: str, query: str) -> None:
        registry = self.registry
        if self.command == "POST":
            session = f"upload-{len(registry.uploads)}"
            registry.uploads[session] = bytearray()
            least = {"OCI_Chunk_Min_Length": str(registry.least_piece)} if registry.least_piece else {}
            self._answer(202, Location=self._location(repository, session), **least)
            return
        held = registry.uploads.get(session)
        if held is None:
            self._refuse(404, "BLOB_UPLOAD_UNKNOWN")
            return
        begins = self.headers.get("Content-Range")
        if begins is not None and int(begins.partition("-")[0]) != len(held):
            self._refuse(416, "BLOB_UPLOAD_INVALID")
            return
        held += self._body()
        if self.command == "PATCH":
            self._answer(202, Location=self._location(repository, session), Range=f"0-{len(held) - 1}")
            return
        digest = parse_qs(query)["digest"][0]
        data = bytes(registry.uploads.pop(session))
        registry.uploads[f"done-{session}"] = bytearray()
        if sha256(data) != digest:
            self._refuse(400, "DIGEST_INVALID")
            return
        registry.blobs[repository, digest] = data
        self._answer(201, Docker_Content_Digest=digest)

    def _location(self, repository: str, session: str) -> str:
        registry = self.registry
        path = f"/v2/{repository}/blobs/uploads/{session}{f'?{registry.query}' if registry.query else ''}"
        if registry.relative:
            return path
        scheme = "https" if registry.tls else "http"
        return f"{scheme}://{registry.uploads_at or registry.host}{path}"

    # --- manifests -------------------------------------------------------------------------------

    def _manifests(self, repository: str, reference: str, _query: str) -> None:
        registry = self.registry
        if self.command == "PUT":
            self._put_manifest(repository, reference)
            return
        found = registry.manifests.get((repository, reference))
        if found is None:
            self._refuse(404, "MANIFEST_UNKNOWN")
        elif self.command == "DELETE":
            if not registry.deletes:
                self._refuse(405, "UNSUPPORTED")
                return
            gone = [
                key for key, value in registry.manifests.items() if key[0] == repository and value == found
            ]
            for key in gone:
                del registry.manifests[key]
            self._answer(202)
        else:
            self._answer(200, found[1], Content_Type=found[0], Docker_Content_Digest=sha256(found[1]))

    def _put_manifest(self, repository: str, reference: str) -> None:
        registry = self.registry
        data = self._body()
        fields: dict[str, Any] = json.loads(data)
        named = [one["digest"] for one in (*fields.get("layers", ()), fields.get("config", {})) if one]
        if any((repository, digest) not in registry.blobs for digest in named):
            self._refuse(400, "MANIFEST_BLOB_UNKNOWN")
            return
        if reference.startswith("sha256:") and reference != sha256(data):
            self._refuse(400, "DIGEST_INVALID")
            return
        kind = self.headers["Content-Type"]
        stored = (
            json.dumps({**fields, "annotations": {"swapped": "yes"}}).encode() if registry.swaps else data
        )
        registry.manifests[repository, sha256(data)] = (kind, data)
        registry.manifests[repository, reference] = (kind, data if reference == sha256(data) else stored)
        self._answer(201, Docker_Content_Digest=sha256(b"lie" if registry.lies else data))

    def _tags(self, repository: str, _name: str, query: str) -> None:
        names = sorted(
            tag
            for name, tag in self.registry.manifests
            if name == repository and not tag.startswith("sha256:")
        )
        if any(name == repository for name, _ in self.registry.manifests):
            self._names("tags", names, query)
        else:
            self._refuse(404, "NAME_UNKNOWN")

    def _names(self, key: str, names: list[str], query: str) -> None:
        last = parse_qs(query).get("last", [""])[0]
        rest = [name for name in names if name > last]
        shown = rest[: self.registry.page]
        headers = {}
        if len(rest) > len(shown):
            headers["Link"] = f'<{urlsplit(self.path).path}?last={shown[-1]}>; rel="next"'
        self._answer(200, json.dumps({key: shown}).encode(), **headers)


@contextmanager
def pushable(registry: PushRegistry, pki: Pki | None) -> Iterator[PushRegistry]:
    """Run the registry on 127.0.0.1, with TLS if there is a `pki`."""
    handler = type("Handler", (_Handler,), {"registry": registry})
    context: ssl.SSLContext | None = None
    if pki is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pki.certificate, pki.key)

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def finish_request(self, request: Any, address: Any) -> None:
            with suppress(OSError):  # a client that does not trust us, or that has seen enough, hangs up
                if context is None:
                    super().finish_request(request, address)
                    return
                with context.wrap_socket(request, server_side=True) as tls:
                    super().finish_request(tls, address)

    with Server(("127.0.0.1", 0), handler) as server:
        registry.host = f"127.0.0.1:{server.server_address[1]}"
        registry.tls = pki is not None
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield registry
        finally:
            server.shutdown()
            thread.join(timeout=10)
