"""Artifacts and the registry that the lab has: with TLS and a password, and with tokens by team."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from serval_contract.stage_report import StageReport, parse_stage_report
from serval_serving.artifacts import push as push_module
from serval_serving.artifacts.artifact import read_artifact
from serval_serving.artifacts.client import RegistryClient, Settings
from serval_serving.artifacts.errors import ArtifactFailure
from serval_serving.artifacts.folder import Limits, bytes_file
from serval_serving.artifacts.image import append_layers, make_image
from serval_serving.artifacts.layer import make_layer
from serval_serving.artifacts.push import Pusher
from serval_serving.artifacts.push_stage import PushSettings, run, tag_of
from serval_serving.fetch.environment import Environment
from serval_serving.fetch.oci.login import PULL_SECRET
from serval_serving.fetch.safety.address_policy import AddressPolicy
from support.fetching import OPEN
from support.registry import PASSWORD, USER, Registry, running
from unit.serving.artifacts.conftest import write_artifact
from unit.serving.fetch.tls import Pki, make_pki

KEY = "sha256:" + "a" * 64
SERVICE, ISSUER = "registry", "authority of the test"
TEAMS = {"team-a": "password of a", "team-b": "password of b"}


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return make_pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, pki: Pki) -> Iterator[Registry]:
    folder = tmp_path_factory.mktemp("registry")
    with running(folder, ca=pki.ca, certificate=pki.certificate, key=pki.key) as registry:
        yield registry


def client(registry: Registry, login: tuple[str, str] | None = (USER, PASSWORD)) -> RegistryClient:
    return RegistryClient(
        registry.host, Settings(login, registry.ca, environment=Environment(policy=AddressPolicy(())))
    )


def stage(
    registry: Registry, folder: Path, repository: str, login: tuple[str, str], artifact: Path
) -> StageReport:
    secret = folder / f"secret-{login[0]}"
    secret.mkdir(exist_ok=True)
    auth = base64.b64encode(":".join(login).encode()).decode()
    (secret / PULL_SECRET).write_text(json.dumps({"auths": {registry.host: {"auth": auth}}}))
    message = folder / "termination"
    message.write_text("")
    settings = PushSettings(
        artifact,
        f"{registry.host}/{repository}",
        KEY,
        tag_of(KEY),
        credentials_dir=secret,
        ca_file=registry.ca,
    )
    run(settings, Environment(policy=OPEN), message)
    report = parse_stage_report(message.read_text())
    assert report is not None
    return report


def test_push_and_read_back(registry: Registry, tmp_path: Path) -> None:
    artifact = write_artifact(tmp_path / "artifact")
    login = (USER, PASSWORD)
    report = stage(registry, tmp_path, "serval/team-a", login, artifact)
    made = read_artifact(artifact, Limits(), cache_key=KEY).image
    assert report.reason == "", report.message
    assert report.result["artifact"] == f"{registry.host}/serval/team-a@{made.digest}"
    reader = client(registry)
    assert reader.manifest("serval/team-a", made.digest) == made.manifest
    for layer in made.layers:
        assert reader.blob("serval/team-a", layer.blob.digest, 1 << 20) == b"".join(layer.blob.chunks())
    again = stage(registry, tmp_path, "serval/team-a", login, artifact)
    assert again.result == {"artifact": report.result["artifact"], "bytes": made.size, "cached": True}
    assert reader.tags("serval/team-a") == [tag_of(KEY)]
    assert "serval/team-a" in (reader.repositories() or [])
    reader.delete("serval/team-a", made.digest)
    assert reader.manifest("serval/team-a", made.digest) is None


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "gzip"])
def test_in_pieces(registry: Registry, monkeypatch: pytest.MonkeyPatch, compress: bool) -> None:
    monkeypatch.setattr(push_module, "CHUNK_BYTES", 1000)
    pusher = Pusher(client(registry), "serval/pieces")
    pusher._in_chunks = True
    image = make_image([make_layer([bytes_file("a", bytes(range(256)) * 40)], compress=compress)])
    pusher.push(image, "v1")
    assert client(registry).manifest("serval/pieces", "v1") == image.manifest


def test_layer_on_top_of_an_image(registry: Registry) -> None:
    pusher = Pusher(client(registry), "serval/edge")
    base = make_image([make_layer([bytes_file("bin/server", b"1")])])
    pusher.push(base, "base")
    layer = make_layer([bytes_file("conversion.json", b"{}")], below="models/m/1")
    top = append_layers(base.manifest, b"".join(base.config.chunks()), [layer], arguments=["--model_name=m"])
    pusher.push(top, "v1")
    assert client(registry).manifest("serval/edge", "v1") == top.manifest


def test_wrong_password(registry: Registry, tmp_path: Path) -> None:
    report = stage(registry, tmp_path, "serval/x", (USER, "wrong"), write_artifact(tmp_path / "a"))
    assert (report.reason, report.permanent) == ("PushDenied", True)
    assert "wrong" not in report.message


# --- tokens --------------------------------------------------------------------------------------------


class Authority:
    """Gives tokens: a team may do everything in its repository, ``serval/TEAM``, and nothing elsewhere."""

    def __init__(self, folder: Path) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, ISSUER)])
        now = time.time()
        self._certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_moment(now - 3600))
            .not_valid_after(_moment(now + 86400))
            .sign(self._key, hashes.SHA256())
        )
        self.bundle = folder / "bundle.pem"
        self.bundle.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))
        self.seconds = 300
        self.given = 0

    def token(self, team: str, scope: str) -> str:
        """Return a JSON Web Token."""
        kind, _, rest = scope.partition(":")
        name, _, actions = rest.rpartition(":")
        allowed = actions.split(",") if (kind, name) == ("repository", f"serval/{team}") else []
        now = int(time.time())
        chain = base64.b64encode(self._certificate.public_bytes(serialization.Encoding.DER)).decode()
        head = {"typ": "JWT", "alg": "ES256", "x5c": [chain]}
        self.given += 1
        claims = {
            "iss": ISSUER,
            "sub": team,
            "aud": SERVICE,
            "iat": now,
            "nbf": now - 60,
            "exp": now + self.seconds,
            "jti": str(self.given),
            "access": [{"type": kind, "name": name, "actions": allowed}],
        }
        signed = f"{_encode(head)}.{_encode(claims)}"
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_url64(r.to_bytes(32) + s.to_bytes(32))}"


def _moment(seconds: float) -> Any:
    from datetime import UTC, datetime  # noqa: PLC0415 - one use

    return datetime.fromtimestamp(seconds, UTC)


def _encode(fields: Any) -> str:
    return _url64(json.dumps(fields).encode())


def _url64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


@contextmanager
def authority_server(authority: Authority, pki: Pki) -> Iterator[str]:
    import ssl  # noqa: PLC0415 - one use

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = base64.b64decode(self.headers.get("Authorization", "").removeprefix("Basic ")).decode()
            team, _, password = given.partition(":")
            data = b"{}"
            if TEAMS.get(team) == password:
                scope = parse_qs(urlsplit(self.path).query)["scope"][0]
                data = json.dumps({"token": authority.token(team, scope)}).encode()
            self.send_response(200 if data != b"{}" else 401)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki.certificate, pki.key)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"https://127.0.0.1:{server.server_port}/token"
        finally:
            server.shutdown()
            thread.join(timeout=10)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def by_team(authority: Authority, tmp_path: Path, pki: Pki) -> Iterator[Registry]:
    with authority_server(authority, pki) as realm:
        token = {
            "realm": realm,
            "service": SERVICE,
            "issuer": ISSUER,
            "rootcertbundle": str(authority.bundle),
        }
        folder = tmp_path / "by-team"
        folder.mkdir()
        files = {"ca": pki.ca, "certificate": pki.certificate, "key": pki.key}
        with running(folder, **files, auth={"token": token}) as registry:
            yield registry


def test_tenants_have_their_own_repositories(by_team: Registry, tmp_path: Path) -> None:
    as_a, as_b = TEAMS.items()
    of_b = stage(by_team, tmp_path, "serval/team-b", as_b, write_artifact(tmp_path / "b"))
    assert of_b.reason == "", of_b.message
    digest = of_b.result["artifact"].partition("@")[2]
    mounted = client(by_team, as_b).manifest("serval/team-b", digest)

    evil = write_artifact(tmp_path / "evil", b"evil" * 100)
    report = stage(by_team, tmp_path, "serval/team-b", as_a, evil)
    assert (report.reason, report.permanent) == ("PushDenied", True)
    with pytest.raises(ArtifactFailure, match="PushDenied"):
        client(by_team, as_a).delete("serval/team-b", digest)
    with pytest.raises(ArtifactFailure, match="PushDenied"):
        Pusher(client(by_team, as_a), "serval/team-b").push(make_image([make_layer([])]), tag_of(KEY))
    assert stage(by_team, tmp_path, "serval/team-a", as_a, evil).reason == ""
    assert client(by_team, as_b).tags("serval/team-b") == [tag_of(KEY)]
    assert client(by_team, as_b).manifest("serval/team-b", tag_of(KEY)) == mounted


def test_tokens_that_are_expired(
    by_team: Registry, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every second token for a push is expired; the registry allows for a minute between clocks."""
    made, given = authority.token, list[str]()

    def token(team: str, scope: str) -> str:
        given.extend([scope] if "push" in scope else [])
        authority.seconds = -120 if "push" in scope and len(given) % 2 else 300
        return made(team, scope)

    monkeypatch.setattr(authority, "token", token)
    image = make_image([make_layer([bytes_file("a", b"1" * 100_000)])])
    as_a = ("team-a", TEAMS["team-a"])
    Pusher(client(by_team, as_a), "serval/team-a").push(image, "v1")
    assert len(given) >= 8
    assert client(by_team, as_a).manifest("serval/team-a", "v1") == image.manifest
