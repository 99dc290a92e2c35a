from __future__ import annotations

import asyncio
import json
import socket
import threading
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from serval_operator.errors import ConfigurationError
from serval_operator.runtime import authentication
from serval_operator.runtime.authentication import (
    TOKEN_SECONDS,
    Connection,
    Credentials,
    lively_socket,
    load_connection,
)
from support.apiserver import Script
from support.clock import FakeClock


def kubeconfig(folder: Path, *, cluster: dict[str, Any], user: dict[str, Any]) -> str:
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(document))
    return str(path)


# --- where the API server is ----------------------------------------------------------------------------


async def test_a_kubeconfig_with_a_token(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, cluster={"server": "http://127.0.0.1:1/"}, user={"token": "abc"})
    connection = load_connection(path, env={})
    assert connection.server == "http://127.0.0.1:1"
    assert await connection.credentials.header() == "Bearer abc"


@pytest.mark.parametrize(
    ("server", "prefix"),
    [
        ("https://127.0.0.1:1", ""),
        ("https://127.0.0.1:1/", ""),
        ("https://127.0.0.1:1/k8s/clusters/c-1", "/k8s/clusters/c-1"),
        ("https://127.0.0.1:1/k8s/clusters/c-1/", "/k8s/clusters/c-1"),
    ],
)
def test_the_path_of_the_server(tmp_path: Path, server: str, prefix: str) -> None:
    cluster = {"server": server, "insecure-skip-tls-verify": True}
    connection = load_connection(kubeconfig(tmp_path, cluster=cluster, user={}), env={})
    assert connection.prefix == prefix
    assert connection.server == f"https://127.0.0.1:1{prefix}"


async def test_a_kubeconfig_whose_plugin_gives_the_token(tmp_path: Path) -> None:
    credential = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": "made"},
    }
    plugin = {"apiVersion": credential["apiVersion"], "command": "echo", "args": [json.dumps(credential)]}
    path = kubeconfig(tmp_path, cluster={"server": "http://127.0.0.1:1"}, user={"exec": plugin})
    assert await load_connection(path, env={}).credentials.header() == "Bearer made"


async def test_a_kubeconfig_without_credentials_of_its_own(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, cluster={"server": "http://127.0.0.1:1"}, user={})
    assert await load_connection(path, env={}).credentials.header() is None


async def test_a_service_account_and_its_token_as_it_changes(tmp_path: Path) -> None:
    account = tmp_path / "account"
    account.mkdir()
    (account / "token").write_text("one")
    (account / "ca.crt").write_text(AUTHORITY)
    env = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    connection = load_connection(env=env, service_account=account)
    assert connection.server == "https://10.0.0.1:443"
    assert connection.proxy is None
    assert await connection.credentials.header() == "bearer one"


async def test_a_kubeconfig_goes_before_the_service_account(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, cluster={"server": "http://127.0.0.1:1"}, user={"token": "abc"})
    env = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    assert load_connection(path, env=env, service_account=tmp_path).server == "http://127.0.0.1:1"


@pytest.mark.parametrize("content", [None, "", "current-context: gone\n", "[]", "{"])
def test_a_kubeconfig_that_cannot_be_used(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "kubeconfig"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigurationError, match="no cluster can be reached") as caught:
        load_connection(str(path), env={})
    assert "\n" not in str(caught.value)


def test_a_service_account_that_cannot_be_used(tmp_path: Path) -> None:
    env = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    with pytest.raises(ConfigurationError, match="token file"):
        load_connection(env=env, service_account=tmp_path)


def test_another_tls_name_is_refused(tmp_path: Path) -> None:
    cluster = {"server": "https://127.0.0.1:1", "tls-server-name": "other", "insecure-skip-tls-verify": True}
    with pytest.raises(ConfigurationError, match="tls-server-name"):
        load_connection(kubeconfig(tmp_path, cluster=cluster, user={}), env={})


@pytest.mark.parametrize(
    ("bypass", "proxy"), [("", "http://proxy:1"), ("127.0.0.1", None), ("other", "http://proxy:1")]
)
async def test_proxies_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bypass: str, proxy: str | None
) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy:1")
    monkeypatch.setenv("no_proxy", bypass)
    path = kubeconfig(tmp_path, cluster={"server": "http://127.0.0.1:1"}, user={})
    assert load_connection(path, env={}).proxy == proxy


async def test_an_insecure_cluster_is_not_verified(tmp_path: Path) -> None:
    cluster = {"server": "https://127.0.0.1:1", "insecure-skip-tls-verify": True}
    connection = load_connection(kubeconfig(tmp_path, cluster=cluster, user={}), env={})
    assert not isinstance(connection.tls, bool)
    assert connection.tls.check_hostname is False


def test_the_system_asks_whether_a_silent_server_is_there() -> None:
    address = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", 1))
    with lively_socket(address) as made:
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        silent = made.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
        pause = made.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)
        assert silent + pause * made.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) <= 60


# --- the header -----------------------------------------------------------------------------------------


async def test_the_header_is_read_once_in_a_while() -> None:
    clock, reads = FakeClock(), iter(["one", "two", "three"])
    credentials = Credentials(lambda: next(reads), renewable=True, clock=clock)
    assert [await credentials.header(), await credentials.header()] == ["one", "one"]
    clock.now += TOKEN_SECONDS
    assert [await credentials.header(), await credentials.header()] == ["two", "two"]
    credentials.refused()
    assert await credentials.header() == "three"


async def test_many_requests_cause_one_read() -> None:
    gate, reads = threading.Event(), []

    def read() -> str:
        gate.wait(5)
        reads.append(1)
        return "header"

    credentials = Credentials(read, renewable=True)
    waiting = [asyncio.ensure_future(credentials.header()) for _ in range(5)]
    await asyncio.sleep(0)
    gate.set()
    assert await asyncio.gather(*waiting) == ["header"] * 5
    assert len(reads) == 1


async def test_many_requests_share_a_failed_read_and_the_next_one_reads_again() -> None:
    gate, reads = threading.Event(), []

    def read() -> str:
        gate.wait(5)
        reads.append(1)
        if len(reads) == 1:
            raise OSError("no token")
        return "header"

    credentials = Credentials(read, renewable=True)
    waiting = [asyncio.ensure_future(credentials.header()) for _ in range(5)]
    await asyncio.sleep(0)
    gate.set()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(error) for error in found] == [aiohttp.ClientConnectionError] * 5
    assert str(found[0]) == "the credentials cannot be read: no token"
    assert len(reads) == 1
    assert await credentials.header() == "header"


async def test_a_request_that_is_cancelled_leaves_the_read_to_the_others() -> None:
    gate, reads = threading.Event(), []

    def read() -> str:
        reads.append(1)
        gate.wait(5)
        return "header"

    credentials = Credentials(read, renewable=True)
    first, second = (asyncio.ensure_future(credentials.header()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    gate.set()
    assert await second == "header"
    assert len(reads) == 1


async def test_a_read_that_hangs_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authentication, "READ_SECONDS", 0.01)
    gate = threading.Event()
    credentials = Credentials(lambda: "late" if gate.wait(5) else None, renewable=True)
    with pytest.raises(aiohttp.ClientConnectionError, match="could not be read in time"):
        await credentials.header()
    gate.set()


async def test_a_header_that_never_changes_is_read_once() -> None:
    clock, reads = FakeClock(), iter(["one"])
    credentials = Credentials(lambda: next(reads), renewable=False, clock=clock)
    await credentials.header()
    credentials.refused()
    clock.now += 1e9
    assert await credentials.header() == "one"


async def test_sessions_send_the_header_and_ask_for_plain_answers(script: Script) -> None:
    script.says({})
    connection = Connection(script.url, True, Credentials(lambda: "Bearer abc", renewable=False))
    async with connection.session() as session, session.get(f"{script.url}/api") as response:
        assert response.status == 200
    assert script.asked[0].headers["Authorization"] == "Bearer abc"
    assert script.asked[0].headers["Accept-Encoding"] == "identity"


AUTHORITY = """\
-----BEGIN CERTIFICATE-----
MIIBdDCCARugAwIBAgIUAYrX4KNlYGuOusV/Q10cJ2rHonkwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEdGVzdDAgFw0yNjExMjExMDEwNTVaGA8yMTI2MTAyODEwMTA1
NVowDzENMAsGA1UEAwwEdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABMQ0
89cDKK2R34wpBUN4oK4blaImCpDsv6xfqIodMY/MMshYf6KDbMMZjAprZaeZ1Doz
h2QH8OhWeNc/aP38MS6jUzBRMB0GA1UdDgQWBBSr2hbKD5jOocLBucoZvkOQpmQh
WDAfBgNVHSMEGDAWgBSr2hbKD5jOocLBucoZvkOQpmQhWDAPBgNVHRMBAf8EBTAD
AQH/MAoGCCqGSM49BAMCA0cAMEQCIExMPggv09/MtkVeshgpIc/JgCEAi3mjQSIm
pRDZqGWeAiA4EtJys7gWYjzDi91NmD3X196pNZegZRFaSgIvNJdWIw==
-----END CERTIFICATE-----
"""
