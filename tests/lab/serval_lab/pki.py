"""The lab's certificates: one authority, one certificate per component. EC keys, made in milliseconds."""

from __future__ import annotations

import base64
import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID_DAYS = 3650
_BACKDATED = dt.timedelta(hours=1)  # clocks of other machines that use the kubeconfig may lag

CLUSTER_DOMAIN = "cluster.local"
APISERVER_NAMES = (
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    f"kubernetes.default.svc.{CLUSTER_DOMAIN}",
    "localhost",
)


def apiserver_sans(*addresses: str) -> list[str]:
    """Return the subject alternative names of the API server: its names, loopback and `addresses`."""
    return list(dict.fromkeys([*APISERVER_NAMES, "127.0.0.1", *addresses]))


@dataclass(frozen=True)
class KeyPair:
    """A certificate with its private key, as PEM files."""

    cert: Path
    key: Path


class Authority:
    """A certificate authority and the folder it writes to.

    Parameters
    ----------
    folder
        Existing folder; files are ``NAME.crt`` and ``NAME.key``, keys readable by their owner alone.
    name
        Name of its own files.
    """

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"serval-lab-{name}")])
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (x509.BasicConstraints(ca=True, path_length=None), True),
            (_key_usage(ca=True), True),
            (x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), False),
        ]
        certificate = self._sign(self._name, self._key.public_key(), extensions)
        self.pair = self._write(name, certificate, self._key)

    def issue(
        self, name: str, common_name: str, *, organization: str | None = None, sans: Sequence[str] = ()
    ) -> KeyPair:
        """Issue a certificate for client and server use.

        Parameters
        ----------
        name
            Name of the files.
        common_name, organization
            User and group, as Kubernetes reads them.
        sans
            Host names and IP addresses that it may serve as.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
        if organization:
            subject.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
        uses = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (_key_usage(ca=False), True),
            (x509.ExtendedKeyUsage(uses), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False),
        ]
        if sans:
            extensions.append((x509.SubjectAlternativeName([_general_name(san) for san in sans]), False))
        return self._write(name, self._sign(x509.Name(subject), key.public_key(), extensions), key)

    def signing_key(self, name: str) -> tuple[Path, Path]:
        """Make a bare key pair (private, public), as service account tokens are signed with."""
        key = ec.generate_private_key(ec.SECP256R1())
        private, public = self._folder / f"{name}.key", self._folder / f"{name}.pub"
        _write_key(private, key)
        public.write_bytes(
            key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
        return private, public

    def _sign(
        self,
        subject: x509.Name,
        public_key: ec.EllipticCurvePublicKey,
        extensions: Sequence[tuple[x509.ExtensionType, bool]],
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _BACKDATED)
            .not_valid_after(now + dt.timedelta(days=VALID_DAYS))
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(self._key, hashes.SHA256())

    def _write(self, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> KeyPair:
        pair = KeyPair(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        pair.cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        _write_key(pair.key, key)
        return pair


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=not ca,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


def write_kubeconfig(path: Path, *, context: str, server: str, ca: Path, client: KeyPair) -> Path:
    """Write a kubeconfig that holds everything it needs, readable by its owner alone.

    Parameters
    ----------
    path
        The file.
    context
        Name of context, cluster and user. Guards look at it before they touch a cluster.
    server
        URL of the API server.
    ca
        Certificate of the authority.
    client
        Certificate and key of the user.
    """

    def data(file: Path) -> str:
        return base64.b64encode(file.read_bytes()).decode()

    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": context, "cluster": {"server": server, "certificate-authority-data": data(ca)}}
        ],
        "users": [
            {
                "name": context,
                "user": {
                    "client-certificate-data": data(client.cert),
                    "client-key-data": data(client.key),
                },
            }
        ],
        "contexts": [{"name": context, "context": {"cluster": context, "user": context}}],
        "current-context": context,
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(config, indent=1) + "\n")  # JSON is YAML
    return path
