"""The API server's address and the operator's credentials: read by the official client, used with aiohttp.

The official client knows service accounts, kubeconfigs, exec plugins and how each renews its token. This
module turns them into a TLS context, and into a header that is renewed as the official client says.
"""

from __future__ import annotations

import asyncio
import math
import os
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined] # typeshed forgot it

import aiohttp
import yaml
from kubernetes.client import Configuration
from kubernetes.config import ConfigException, load_kube_config
from kubernetes.config.incluster_config import InClusterConfigLoader
from yarl import URL

from serval_operator.errors import ConfigurationError
from serval_operator.runtime.single_flight import SingleFlight

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
SERVICE_HOST = "KUBERNETES_SERVICE_HOST"
TOKEN_SECONDS = 30.0
"""How long a header is used before the official client is asked again. It reads a service account's token
anew each minute; the kubelet renews the file long before the token ends."""
READ_SECONDS = 30.0
"""Limit of one read of the credentials. An exec plugin has no limit by itself."""
CONNECT_SECONDS = 10.0
QUIET_SECONDS, PROBE_SECONDS, PROBES = 20, 10, 3
"""TCP keepalive: the silence in seconds after which probes are sent, the pause between two, and their number.
The system sends them without a request. A network that is cut breaks a watch in 50 seconds, and a firewall on
the way does not regard the connection as unused."""
BEARER = "BearerToken"
USER_AGENT = "serval-operator"


class Credentials:
    """The ``Authorization`` header of requests, renewed in time.

    Parameters
    ----------
    read:
        Gives the header's value now, or None if a client certificate is used. It may block.
    renewable:
        False if ``read`` always gives the same.
    """

    def __init__(
        self,
        read: Callable[[], str | None],
        *,
        renewable: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._renewable = renewable
        self._clock = clock
        self._header: str | None = None
        self._until = -1.0
        self._reads = SingleFlight(self._renew, clock)

    async def header(self) -> str | None:
        """Value of the header; None if there is none.

        Raises
        ------
        aiohttp.ClientConnectionError
            It cannot be read now. A request without it would be refused, so it counts as not sent.
        """
        if self._clock() >= self._until:
            await self._reads.get(-math.inf)
        return self._header

    def refused(self) -> None:
        """The API server did not accept the header: read it again before the next request."""
        if self._renewable:
            self._until = -1.0

    async def _renew(self) -> None:
        try:
            # In a thread: an exec plugin is a program that may ask a server far away.
            async with asyncio.timeout(READ_SECONDS):
                self._header = await asyncio.to_thread(self._read)
        except TimeoutError as error:
            raise aiohttp.ClientConnectionError("the credentials could not be read in time") from error
        except (ConfigException, yaml.YAMLError, OSError, ValueError, KeyError, TypeError) as error:
            raise aiohttp.ClientConnectionError(f"the credentials cannot be read: {error}") from error
        self._until = self._clock() + TOKEN_SECONDS if self._renewable else float("inf")


@dataclass(frozen=True, slots=True)
class Connection:
    """An API server, and the credentials for it.

    Parameters
    ----------
    server:
        URL without a slash at its end.
    tls:
        Context with the authority and, where there is one, the client certificate.
    """

    server: str
    tls: ssl.SSLContext | bool
    credentials: Credentials
    proxy: str | None = None

    @property
    def prefix(self) -> str:
        """Path of the server's URL, which is the start of the path of each request; empty in most clusters.

        Rancher, for example, serves each cluster behind ``/k8s/clusters/<id>``.
        """
        return URL(self.server).path.rstrip("/")

    def session(
        self,
        *,
        connections: int = 0,
        traces: list[aiohttp.TraceConfig] | None = None,
        outer: Sequence[aiohttp.ClientMiddlewareType] = (),
    ) -> aiohttp.ClientSession:
        """Open a new session, which the caller closes.

        Parameters
        ----------
        connections:
            Most connections at a time; 0 means no limit.
        outer:
            Middlewares around the one that adds the header.
        """
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections, ssl=self.tls, socket_factory=lively_socket),
            # The API server is near: to compress its answers costs more than to send them.
            headers={"Accept-Encoding": "identity", "User-Agent": USER_AGENT},
            middlewares=(*outer, self._authorize),
            proxy=self.proxy,
            trace_configs=traces,
            trust_env=False,
        )

    async def _authorize(
        self, request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        header = await self.credentials.header()
        if header:
            request.headers["Authorization"] = header
        response = await send(request)
        if response.status == 401:
            self.credentials.refused()
        return response


def lively_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """Return a socket for an address, which notices that the other side is gone even if it closed nothing."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, QUIET_SECONDS)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, PROBE_SECONDS)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)
    return made


def load_connection(
    kubeconfig: str = "",
    *,
    env: Mapping[str, str] | None = None,
    service_account: Path = SERVICE_ACCOUNT,
) -> Connection:
    """Find the API server and the credentials. Blocks.

    Parameters
    ----------
    kubeconfig:
        Path of a kubeconfig. Empty means the pod's service account, or outside a pod the official client's
        default file.
    env:
        Environment with the address of the API server of a pod; that of the process by default.

    Raises
    ------
    ConfigurationError
        No cluster was found, or its description cannot be used.
    """
    env = os.environ if env is None else env
    found = Configuration()
    try:
        if not kubeconfig and env.get(SERVICE_HOST) and service_account.is_dir():
            InClusterConfigLoader(
                token_filename=str(service_account / "token"),
                cert_filename=str(service_account / "ca.crt"),
                environ=env,
            ).load_and_set(found)
            found.proxy = None  # a pod's way to its own API server never leads through a proxy
        else:
            load_kube_config(config_file=kubeconfig or None, client_configuration=found, persist_config=False)
        return _connection(found)
    except (ConfigException, yaml.YAMLError, OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"no cluster can be reached: {' '.join(str(error).split())}") from error


def _connection(found: Any) -> Connection:
    if found.tls_server_name:
        raise ConfigurationError("the kubeconfig's tls-server-name is not supported")
    return Connection(
        server=found.host.rstrip("/"),
        tls=_tls(found) if found.host.startswith("https") else True,
        credentials=Credentials(
            lambda: found.get_api_key_with_prefix(BEARER),
            renewable=found.refresh_api_key_hook is not None,
        ),
        proxy=_proxy(found),
    )


def _proxy(found: Any) -> str | None:
    bypassed = proxy_bypass_environment(urlsplit(found.host).netloc, {"no": found.no_proxy or ""})
    return None if bypassed else found.proxy or None


def _tls(found: Any) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=found.ssl_ca_cert)
    if found.cert_file:
        context.load_cert_chain(found.cert_file, found.key_file)
    if not found.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
