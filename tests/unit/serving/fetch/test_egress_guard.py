from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import urllib3

from serval_serving.fetch.errors import FetchError
from serval_serving.fetch.safety.address_policy import REFUSED, AddressPolicy
from serval_serving.fetch.safety.egress_guard import MAX_HEAD_BYTES, Guard, proxying
from support.ports import free_port
from unit.serving.fetch.conftest import Network
from unit.serving.fetch.tls import HOST, Pki, Site, content

OPEN = AddressPolicy(entry for entry in REFUSED if entry[0] != "127.0.0.0/8")


@contextmanager
def plain_server(seen: list[tuple[str, dict[str, str], bytes]]) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            seen.append((self.path, dict(self.headers), body))
            self.send_response(200)
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"done")

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join(timeout=10)


def test_tls_goes_through_unread(site: Site, pki: Pki, network: Network) -> None:
    site.serve("/m", content(b"x" * 1_000_000))
    guard = Guard(network.resolve, OPEN)
    with proxying(guard) as address, urllib3.ProxyManager(address, ca_certs=str(pki.ca)) as client:
        for _ in range(3):
            assert len(client.request("GET", site.uri("/m"), retries=False).data) == 1_000_000
    assert network.asked[0] == HOST
    assert guard.take_failure() is None


def test_plain_request_loses_what_is_the_proxy_s(network: Network) -> None:
    seen: list[tuple[str, dict[str, str], bytes]] = []
    with (
        plain_server(seen) as port,
        proxying(Guard(network.resolve, OPEN)) as address,
        urllib3.ProxyManager(address, proxy_headers={"Proxy-Authorization": "SECRET"}) as client,
    ):
        for _ in range(2):
            uri = f"http://{HOST}:{port}/a%20b?c=d&e"
            assert client.request("POST", uri, body=b"b" * 300_000, retries=False).data == b"done"
    for path, headers, body in seen:
        assert path == "/a%20b?c=d&e"
        assert headers["Host"] == f"{HOST}:{port}"
        assert headers["Connection"] == "close"
        assert "SECRET" not in headers.values()
        assert len(body) == 300_000
    assert len(seen) == 2


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_refused_address(network: Network, scheme: str) -> None:
    network.hosts = {"metadata.test": [["169.254.169.254"]]}
    guard = Guard(network.resolve, AddressPolicy())
    with proxying(guard) as address, urllib3.ProxyManager(address) as client:
        if scheme == "http":
            assert client.request("GET", "http://metadata.test/latest", retries=False).status == 403
        else:
            with pytest.raises(urllib3.exceptions.ProxyError):
                client.request("GET", "https://metadata.test/latest", retries=False)
    failure = guard.take_failure()
    assert failure is not None
    assert failure.reason == "ModelAccessDenied"
    assert "169.254.169.254" in failure.message
    assert guard.take_failure() is None, "it is told once"


def test_second_answer_of_the_name_server_changes_nothing(site: Site, pki: Pki, network: Network) -> None:
    network.hosts = {HOST: [["127.0.0.1"], ["169.254.169.254"]]}
    site.serve("/m", content(b"x"))
    with (
        proxying(Guard(network.resolve, OPEN)) as address,
        urllib3.ProxyManager(address, ca_certs=str(pki.ca)) as client,
    ):
        assert client.request("GET", site.uri("/m"), retries=False).data == b"x"
    assert network.asked == [HOST]


def test_exempt_host_and_no_other(network: Network) -> None:
    network.hosts = {"identity.test": [["127.0.0.1"]], "other.test": [["127.0.0.1"]]}
    with socket.create_server(("127.0.0.1", 0)) as server:
        guard = Guard(network.resolve, AddressPolicy(), frozenset({"identity.test"}))
        guard.connect("identity.test", server.getsockname()[1]).close()
        with pytest.raises(FetchError, match="loopback"):
            guard.connect("other.test", server.getsockname()[1])


def test_failures_are_named(network: Network) -> None:
    port = free_port()
    guard = Guard(network.resolve, OPEN)
    with proxying(guard) as address, urllib3.ProxyManager(address) as client:
        assert client.request("GET", f"http://{HOST}:{port}/", retries=False).status == 502
    failure = guard.take_failure()
    assert failure is not None
    assert (failure.reason, failure.again) == ("ModelSourceUnavailable", True)
    assert "connection refused" in failure.message


@pytest.mark.parametrize(
    "request_",
    [
        b"CONNECT\r\n\r\n",
        b"GET http://[::1 HTTP/1.1\r\n\r\n",
        b"\xff / x\r\n\r\n",
        b"GET http://h:99999/ x\r\n\r\n",
    ],
)
def test_strange_request(network: Network, request_: bytes) -> None:
    with proxying(Guard(network.resolve, OPEN)) as address:
        port = int(address.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(request_)
            assert client.recv(100).startswith(b"HTTP/1.1 502")


def test_endless_head_is_cut_off(network: Network) -> None:
    with proxying(Guard(network.resolve, OPEN)) as address:
        port = int(address.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            sent = threading.Thread(target=_send_for_ever, args=(client,))
            sent.start()
            sent.join(timeout=10)
            assert not sent.is_alive()


def _send_for_ever(client: socket.socket) -> None:
    with suppress(ConnectionError):
        while True:
            client.sendall(b"x" * MAX_HEAD_BYTES)
