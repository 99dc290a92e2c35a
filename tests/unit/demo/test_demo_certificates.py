from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta

from cryptography import x509
from examples.demo.certificates import RENEW_BEFORE, VALID_FOR, issue

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
NAMES = ("model-store.demo.svc", "model-store")


def test_it_is_good_for_its_names_until_a_week_before_its_end() -> None:
    certificate = issue(NAMES, NOW)
    assert certificate.is_good_for(NAMES, NOW)
    assert certificate.is_good_for(NAMES[1:], NOW)
    assert not certificate.is_good_for([*NAMES, "other"], NOW)
    last = NOW + VALID_FOR - RENEW_BEFORE
    assert certificate.is_good_for(NAMES, last - timedelta(seconds=1))
    assert not certificate.is_good_for(NAMES, last)


def test_the_authority_vouches_for_the_server_and_for_nobody_else() -> None:
    made, other = issue(NAMES, NOW), issue(NAMES, NOW)
    authority = x509.load_pem_x509_certificate(made.authority.encode())
    server = x509.load_pem_x509_certificate(made.certificate.encode())
    server.verify_directly_issued_by(authority)
    assert made.authority != other.authority
    assert made.key != other.key


def test_strict_verification_accepts_it_as_a_trust_anchor() -> None:
    context = ssl.create_default_context(cadata=issue(NAMES, NOW).authority)
    (authority,) = context.get_ca_certs()
    assert authority["subject"] == ((("commonName", "Serval demo model store CA"),),)
