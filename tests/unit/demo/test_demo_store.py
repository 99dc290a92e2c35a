"""The model store's server, over real connections on loopback."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
import urllib3
from examples.demo.certificates import issue
from examples.demo.store_server import serve

LIMIT = 10.0


@dataclass(frozen=True)
class Store:
    """A running store and what its clients trust."""

    port: int
    authority: str

    def get(self, path: str) -> urllib3.BaseHTTPResponse:
        context = ssl.create_default_context(cadata=self.authority)
        with urllib3.PoolManager(ssl_context=context, timeout=LIMIT, retries=False) as pool:
            return pool.request("GET", f"https://localhost:{self.port}{path}")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    certificate = issue(["localhost"], datetime.now(UTC))
    certificates, files = tmp_path / "tls", tmp_path / "files"
    certificates.mkdir()
    (files / "folder").mkdir(parents=True)
    (certificates / "tls.crt").write_text(certificate.certificate)
    (certificates / "tls.key").write_text(certificate.key)
    (files / "digits.tar.gz").write_bytes(b"model" * 100_000)
    (files / "folder" / "inner").write_text("inner")
    with serve(files, certificates, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Store(server.server_address[1], certificate.authority)
        server.shutdown()
        thread.join(timeout=LIMIT)


def test_it_serves_files_to_who_trusts_its_authority(store: Store) -> None:
    answer = store.get("/digits.tar.gz")
    assert answer.status == 200
    assert answer.data == b"model" * 100_000


def test_probes_get_an_answer_without_a_body(store: Store) -> None:
    answer = store.get("/")
    assert (answer.status, answer.data) == (200, b"")


@pytest.mark.parametrize("path", ["/none", "/folder/", "/../tls/tls.key", "/%2e%2e/tls/tls.key"])
def test_it_lists_no_folders_and_leaves_its_own_alone(store: Store, path: str) -> None:
    assert store.get(path).status == 404


def test_a_client_that_never_shakes_hands_holds_nobody_up(store: Store) -> None:
    with socket.create_connection(("localhost", store.port), timeout=LIMIT):
        assert store.get("/digits.tar.gz").status == 200


def test_who_does_not_trust_the_authority_gets_nothing(store: Store) -> None:
    stranger = Store(store.port, issue(["localhost"], datetime.now(UTC)).authority)
    with pytest.raises(urllib3.exceptions.SSLError):
        stranger.get("/digits.tar.gz")
