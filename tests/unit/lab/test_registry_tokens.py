"""What the push registry's accounts may do, and the tokens that say so."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from serval_lab.pki import Authority
from serval_lab.registry_tokens import LEEWAY, Signer, granted, hashed, known

ACCOUNT = {"push": ["team/"], "pull": ["team/", "shared/base"]}


@pytest.mark.parametrize(
    ("scope", "actions"),
    [
        ("repository:team/model:pull,push", ["pull", "push"]),
        ("repository:team/deep/model:delete", ["delete"]),
        ("repository:shared/base:pull,push", ["pull"]),
        ("repository:shared/base/more:pull", []),
        ("repository:team:push", []),
        ("repository:teams/model:push", []),
        ("repository:other/team/model:push", []),
        ("repository:team/model:*", []),
        ("registry:catalog:*", []),
        ("repository:team/model", []),
        ("", []),
    ],
)
def test_an_account_gets_what_lies_below_its_prefixes(scope: str, actions: list[str]) -> None:
    found = granted(ACCOUNT, [scope])
    assert [one["actions"] for one in found] == ([actions] if actions else [])
    assert all(one["name"] == scope.split(":")[1] for one in found)


def test_several_scopes_are_judged_one_by_one() -> None:
    scopes = ["repository:team/a:push repository:other/b:push", "repository:shared/base:pull"]
    assert [one["name"] for one in granted(ACCOUNT, scopes)] == ["team/a", "shared/base"]


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("team:secret:with:colons", "team"),
        ("team:wrong", None),
        ("nobody:secret:with:colons", None),
        ("team", None),
    ],
)
def test_name_and_password_must_both_be_right(header: str, name: str | None) -> None:
    accounts = {"team": {"sha256": hashed("secret:with:colons")}}
    assert known(accounts, "Basic " + base64.b64encode(header.encode()).decode()) == name


@pytest.mark.parametrize("header", ["", "Basic", "Basic %%%", "Basic /w==", "Bearer dGVhbTpzZWNyZXQ="])
def test_other_headers_prove_nothing(header: str) -> None:
    assert known({"team": {"sha256": hashed("secret")}}, header) is None


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def test_a_token_is_signed_by_the_certificate_that_it_carries(tmp_path: Path) -> None:
    pair = Authority(tmp_path).issue("tokens", "tokens")
    access = granted(ACCOUNT, ["repository:team/model:pull"])
    head, body, signature = Signer(pair.cert, pair.key).token("team", access, 10).split(".")
    header: dict[str, Any] = json.loads(decoded(head))
    certificate = x509.load_der_x509_certificate(base64.b64decode(header["x5c"][0]))
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    raw = decoded(signature)
    encoded = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    key.verify(encoded, f"{head}.{body}".encode(), ec.ECDSA(hashes.SHA256()))
    with pytest.raises(InvalidSignature):
        key.verify(encoded, f"{head}.{body}x".encode(), ec.ECDSA(hashes.SHA256()))
    claims = json.loads(decoded(body))
    assert (claims["sub"], claims["access"]) == ("team", access)
    assert claims["exp"] == claims["iat"] + 10 - LEEWAY
