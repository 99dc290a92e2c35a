"""One HTTP request to one address that was judged beforehand, and the words for what can go wrong."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import urllib3
from urllib3 import exceptions as http

from serval_serving.fetch.errors import FetchError, denied, unavailable
from serval_serving.fetch.safety.address_policy import AddressPolicy, Resolve
from serval_serving.fetch.sources import HttpsSource

CONNECT_SECONDS: Final = 10.0
READ_SECONDS: Final = 30.0
MAX_ADDRESSES: Final = 4
"""Addresses of one name that are tried, in the resolver's order."""
USER_AGENT: Final = "serval-fetch"

_NOT_BEGUN: Final = (http.NewConnectionError, http.ConnectTimeoutError)
"""Failures before a byte of the request was sent."""

Body = Callable[[], Iterable[bytes]]
"""Makes the pieces of a request's body. It may be called once for each address that is tried."""


class Transport:
    """Sends requests, over TLS unless a source says otherwise.

    Parameters
    ----------
    context:
        TLS settings and trusted authorities.
    resolve:
        Name resolution.
    policy:
        Addresses that may be connected to.
    timeout:
        Limits of one connection; the default is `CONNECT_SECONDS` and `READ_SECONDS`.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        resolve: Resolve,
        policy: AddressPolicy,
        *,
        timeout: urllib3.Timeout | None = None,
    ) -> None:
        self._context = context
        self._resolve = resolve
        self._policy = policy
        self._timeout = timeout or urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS)

    @contextmanager
    def get(
        self, source: HttpsSource, headers: Mapping[str, str] | None = None
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """Send a GET request, as `send` does."""
        with self.send("GET", source, headers) as reply:
            yield reply

    @contextmanager
    def send(
        self,
        method: str,
        source: HttpsSource,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """Send a request and yield the reply, body unread; redirects are not followed.

        The name is resolved once, and the connection goes to the very address that passed the policy, so
        that a second, different answer of the name server changes nothing.

        Parameters
        ----------
        method:
            Of HTTP.
        source:
            What is asked for.
        headers:
            More headers, such as credentials, and ``Content-Length`` with a body.
        body:
            What is sent. A request with a body that was begun is not sent to a second address.

        Raises
        ------
        FetchError
            If no address is allowed or none answers, or the body breaks off while it is read.
        """
        last: FetchError | None = None
        for address in allowed_addresses(source.host, source.port, self._resolve, self._policy):
            with self._pool(source, address) as pool:
                try:
                    reply = self._request(pool, method, source, headers or {}, body)
                except FetchError as error:
                    if body is not None and not isinstance(error.__cause__, _NOT_BEGUN):
                        raise
                    last = error
                    continue
                try:
                    yield reply
                except http.HTTPError as error:
                    raise describe(error, source) from error
                finally:
                    reply.close()
                return
        raise last or unavailable(f"{source.host} has no address")

    def _pool(self, source: HttpsSource, address: str) -> urllib3.HTTPConnectionPool:
        if source.plain:
            return urllib3.HTTPConnectionPool(address, source.port, maxsize=1, timeout=self._timeout)
        return urllib3.HTTPSConnectionPool(
            address,
            source.port,
            maxsize=1,
            ssl_context=self._context,
            server_hostname=source.host,
            timeout=self._timeout,
        )

    @staticmethod
    def _request(
        pool: urllib3.HTTPConnectionPool,
        method: str,
        source: HttpsSource,
        headers: Mapping[str, str],
        body: Body | None,
    ) -> urllib3.BaseHTTPResponse:
        try:
            return pool.urlopen(
                method,
                source.target,
                body=None if body is None else body(),
                # Bytes are counted and hashed as the file has them, so no coding of the transport's own.
                headers={
                    **headers,
                    "Host": source.authority,
                    "User-Agent": USER_AGENT,
                    "Accept-Encoding": "identity",
                },
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
        except http.HTTPError as error:
            raise describe(error, source) from error


def allowed_addresses(host: str, port: int, resolve: Resolve, policy: AddressPolicy) -> list[str]:
    """Resolve `host` and return the first addresses that may be connected to.

    Raises
    ------
    FetchError
        If the name is unknown or no address of it may be connected to.
    """
    try:
        found = resolve(host, port)
    except socket.gaierror as error:
        raise _dns(error, host) from error
    except (UnicodeError, OSError) as error:
        raise unavailable(f"DNS: the name {host} cannot be looked up") from error
    refusals = {address: policy.refusal(address) for address in found}
    allowed = [address for address, refusal in refusals.items() if refusal is None]
    if found and not allowed:
        address, refusal = next(iter(refusals.items()))
        raise denied(f"{host} is {address} ({refusal}); Serval connects to no such address")
    return allowed[:MAX_ADDRESSES]


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Return TLS settings that trust the system's authorities and those of `ca_file`.

    Raises
    ------
    FetchError
        If the file is missing or holds no certificate.
    """
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(cafile=ca_file)
        except ssl.SSLError as error:
            raise unavailable(f"the CA file {ca_file} holds no certificate", again=False) from error
        except OSError as error:
            text = f"the CA file {ca_file} cannot be read: {error.strerror}"
            raise unavailable(text, again=False) from error
    return context


def describe(error: http.HTTPError, source: HttpsSource) -> FetchError:
    """Say what `error` means, in our own words: the library's may quote the URI's query."""
    place = f"{source.host}:{source.port}"
    if isinstance(error, http.NewConnectionError):  # first: the library derives it from the time-out
        return _connection(error, place)
    if isinstance(error, http.ConnectTimeoutError):
        return unavailable(f"time-out: {place} did not answer")
    if isinstance(error, http.ReadTimeoutError):
        return unavailable(f"time-out: {place} sent nothing for too long")
    if isinstance(error, http.SSLError):
        return _tls(error, place)
    if isinstance(error, http.IncompleteRead):
        return unavailable(f"{place} closed the connection before the file was complete")
    if isinstance(error, http.ProtocolError):
        return unavailable(f"{place} broke off the connection or does not speak HTTP")
    return unavailable(f"{place}: {type(error).__name__}")


def no_connection(cause: BaseException | None, place: str) -> FetchError:
    """Say why there is no connection to `place`."""
    if isinstance(cause, ConnectionRefusedError):
        return unavailable(f"connection refused by {place}")
    if isinstance(cause, TimeoutError):
        return unavailable(f"time-out: {place} did not answer")
    words = cause.strerror if isinstance(cause, OSError) and cause.strerror else "no connection"
    return unavailable(f"no connection to {place}: {words}")


def _dns(error: socket.gaierror, host: str) -> FetchError:
    if error.errno == socket.EAI_NONAME:
        return unavailable(f"DNS: there is no host {host}")
    return unavailable(f"DNS: no answer for {host}: {error.strerror}")


def _connection(error: http.NewConnectionError, place: str) -> FetchError:
    return no_connection(error.__cause__, place)


def _tls(error: http.SSLError, place: str) -> FetchError:
    cause = error.args[0] if error.args else None
    if isinstance(cause, ssl.SSLCertVerificationError):
        # Another try meets the same certificate: leave it to the next start of the container.
        return unavailable(f"certificate of {place} is not trusted: {cause.verify_message}", again=False)
    words = cause.reason if isinstance(cause, ssl.SSLError) and cause.reason else "handshake failed"
    return unavailable(f"TLS with {place}: {words}")
