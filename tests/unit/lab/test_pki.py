from __future__ import annotations

import json
import stat
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from serval_lab.pki import Authority, KeyPair, apiserver_sans, write_kubeconfig


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def load(pair: KeyPair) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pair.cert.read_bytes())


def test_apiserver_answers_to_its_service_loopback_and_bridge(authority: Authority) -> None:
    certificate = load(
        authority.issue("apiserver", "kube-apiserver", sans=apiserver_sans("10.89.0.1", "10.96.0.1"))
    )
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
    }
    assert set(names.get_values_for_type(x509.IPAddress)) == {
        ip_address(text) for text in ("127.0.0.1", "10.89.0.1", "10.96.0.1")
    }


def test_certificates_name_user_and_group_and_come_from_the_authority(authority: Authority) -> None:
    certificate = load(authority.issue("node-a", "system:node:a", organization="system:nodes", sans=["a"]))
    assert [item.value for item in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == [
        "system:node:a"
    ]
    assert [i.value for i in certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)] == [
        "system:nodes"
    ]
    certificate.verify_directly_issued_by(load(authority.pair))
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_keys_are_their_owners_alone(authority: Authority) -> None:
    private, public = authority.signing_key("sa")
    for key in (private, authority.pair.key, authority.issue("a", "a").key):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert b"PUBLIC KEY" in public.read_bytes()


def test_kubeconfig_holds_all_it_needs(authority: Authority, tmp_path: Path) -> None:
    path = write_kubeconfig(
        tmp_path / "kubeconfig",
        context="serval-lab-x",
        server="https://10.89.0.1:6443",
        ca=authority.pair.cert,
        client=authority.issue("admin", "admin"),
    )
    text = path.read_text()
    config = json.loads(text)
    assert config["current-context"] == "serval-lab-x"
    assert config["clusters"][0]["cluster"]["server"] == "https://10.89.0.1:6443"
    assert str(tmp_path) not in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
