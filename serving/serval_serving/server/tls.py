"""TLS from TensorFlow Serving's SSLConfig, for both ports; new connections get certificates that changed."""

from __future__ import annotations

import logging
import os
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import text_format

from serval_serving.server.flags import FlagError, parsing_error
from serval_serving.wire import messages

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Material:
    """What a handshake needs, as PEM."""

    key: bytes
    certificate: bytes
    authority: bytes
    verify: bool


class Tls:
    """Certificates, read again when the files changed.

    Parameters
    ----------
    path:
        Text proto SSLConfig. Its values are PEM, or paths of PEM files, such as those of a mounted Secret.

    Raises
    ------
    FlagError
        It cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._files: tuple[Path, ...] = ()
        self._material = self._read()
        self._stamp = self._stamps()
        self._context = _context(self._material)

    def grpc_credentials(self) -> Any:
        """Make the credentials of a gRPC server."""
        given = self._material

        def fetch() -> Any:
            nonlocal given
            self._refresh()
            # HTTP may have noticed the change first.
            if given is self._material:
                return None
            given = self._material
            return _certificates(given)

        return grpc.dynamic_ssl_server_credentials(_certificates(given), fetch, given.verify)

    def http_context(self) -> ssl.SSLContext:
        """Make the context of an HTTP server."""
        context = _context(self._material)

        def newest(socket: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
            self._refresh()
            socket.context = self._context

        # It is called in every handshake, with a name or without.
        context.sni_callback = newest
        return context

    def _refresh(self) -> None:
        """Read the files again if they changed; what cannot be used leaves the old ones in place."""
        with self._lock:
            stamp = self._stamps()
            if stamp == self._stamp:
                return
            self._stamp = stamp
            try:
                material = self._read()
                context = _context(material)
            except FlagError as error:
                _log.warning("new certificates cannot be used, the old ones stay: %s", error)
                return
            self._stamp = self._stamps()
            self._material, self._context = material, context
            _log.info("the certificates changed")

    def _stamps(self) -> tuple[tuple[int, int] | None, ...]:
        """Say which state the files are in."""
        return tuple(_stamp(path) for path in (self._path, *self._files))

    def _read(self) -> _Material:
        """Read the configuration and the files that it names."""
        config = messages.SSLConfig()
        try:
            text_format.Parse(self._path.read_text(encoding="utf-8"), config)
            values = (config.server_key, config.server_cert, config.custom_ca)
            self._files = tuple(Path(value) for value in values if value.startswith("/"))
            key, certificate, authority = (_pem(value) for value in values)
        except (OSError, UnicodeDecodeError) as error:
            raise FlagError(f"--ssl_config_file cannot be read: {error}") from error
        except text_format.ParseError as error:
            raise parsing_error(config, self._path, error) from error
        if not key or not certificate:
            raise FlagError(f"{self._path} must have server_key and server_cert")
        if config.client_verify and not authority:
            raise FlagError(f"{self._path} must have custom_ca to verify clients")
        return _Material(key, certificate, authority, config.client_verify)


def _pem(value: str) -> bytes:
    """Give a value, or what the file holds that it names."""
    return Path(value).read_bytes() if value.startswith("/") else value.encode()


def _stamp(path: Path) -> tuple[int, int] | None:
    """Say which state a file is in; links are followed, as a mounted Secret is changed by them."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


def _certificates(material: _Material) -> Any:
    """Give the material in gRPC's form."""
    pairs = [(material.key, material.certificate)]
    return grpc.ssl_server_certificate_configuration(pairs, root_certificates=material.authority or None)


def _context(material: _Material) -> ssl.SSLContext:
    """Give the material in the form of the standard library, which reads files only.

    Raises
    ------
    FlagError
        The key and the certificate cannot be used together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        _load(context, material)
    except (ssl.SSLError, ValueError) as error:
        raise FlagError(f"the key or the certificate cannot be used: {error}") from error
    return context


def _load(context: ssl.SSLContext, material: _Material) -> None:
    """Load key and certificates by way of a file in memory, so that the key reaches no disk."""
    descriptor = os.memfd_create("tls")
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(material.certificate.rstrip() + b"\n" + material.key)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
    if material.verify:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=material.authority.decode())
