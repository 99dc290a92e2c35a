"""Addresses of models: the CRD, the operator, the fetcher and the docs take the same ones."""

from __future__ import annotations

import pkgutil
import re
from typing import Any

import pytest
import yaml

from integration.crd_rules_rows import BAD, GOOD
from serval_contract.schemes import PREFIXES, SCHEMES, Scheme
from serval_operator.errors import InvalidSpec
from serval_operator.kinds.model_deployment.spec import parse_spec
from serval_serving.fetch import stores
from serval_serving.fetch.errors import FetchError
from unit.crd.schema import CRD_FILE, ROOT

GUARDED = re.compile(
    r"!self\.(?:startsWith\('(?P<one>\w+)://'\)|matches\('\^\((?P<several>[\w|]+)\)://'\))"
    r" \|\| self\.matches\('(?P<pattern>.*)'\)"
)
"""A rule of the CRD about the addresses of one scheme, or of several that share a form."""
SHARED = {"base", "bucket"}
"""Modules of the package of stores that are no scheme."""
MODELS = [body["spec"]["model"] for body in GOOD.values()]
REFUSED = [
    body["spec"]["model"]
    for body, field, message in BAD.values()
    if field == "spec.model.uri" and message.startswith("must be ")
]
FETCH_DOCS = (ROOT / "docs" / "fetch.md").read_text(encoding="utf-8")
EVERY = pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES.keys())


@pytest.fixture(scope="module")
def model_schema() -> dict[str, Any]:
    (version,) = yaml.safe_load(CRD_FILE.read_text(encoding="utf-8"))["spec"]["versions"]
    spec: dict[str, Any] = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return dict(spec["properties"]["model"])


@pytest.fixture(scope="module")
def rules(model_schema: dict[str, Any]) -> list[dict[str, Any]]:
    """CEL rules of `spec.model.uri`."""
    return list(model_schema["properties"]["uri"]["x-kubernetes-validations"])


def test_the_crd_knows_the_same_schemes(rules: list[dict[str, Any]]) -> None:
    assert rules[0]["rule"] == f"self.matches('^({'|'.join(SCHEMES)})://')"
    assert [one for one in PREFIXES if one not in rules[0]["message"]] == []


@EVERY
def test_the_crd_has_the_same_pattern(rules: list[dict[str, Any]], scheme: Scheme) -> None:
    found = []
    for rule in rules:
        match = GUARDED.fullmatch(rule["rule"])
        names = (match["one"] or match["several"]).split("|") if match else []
        if match and scheme.name in names:
            pattern = match["pattern"].replace("\\\\", "\\")  # as CEL reads a string
            found.append(pattern.replace(f"^({match['several']})://", f"^{scheme.prefix}"))
            assert scheme.form.partition(":TAG")[0] in rule["message"]
    assert found == [f"^{scheme.pattern}$"]


def test_the_crd_refuses_credentials_for_the_same_schemes(model_schema: dict[str, Any]) -> None:
    without = [one for one in SCHEMES.values() if not one.takes_credentials]
    rule = "".join(f" || !self.uri.startsWith('{one.prefix}')" for one in without)
    assert f"!has(self.credentials){rule}" in [
        one["rule"] for one in model_schema["x-kubernetes-validations"]
    ]


@pytest.mark.parametrize("model", MODELS, ids=GOOD.keys())
def test_everybody_takes_what_the_crd_takes(model: dict[str, Any]) -> None:
    uri = model["uri"]
    scheme = SCHEMES[uri.partition(":")[0]]
    assert scheme.accepts(uri)
    assert parse_spec("digits", {"model": {"uri": uri}}).model.scheme == scheme.name
    assert stores.store_of(uri).scheme is scheme


@pytest.mark.parametrize("model", REFUSED, ids=str)
def test_the_operator_refuses_what_the_crd_refuses(model: dict[str, Any]) -> None:
    with pytest.raises(InvalidSpec, match=r"`spec\.model\.uri` must "):
        parse_spec("digits", {"model": model})


@EVERY
def test_a_scheme_has_a_store(scheme: Scheme) -> None:
    store = stores.store_class(scheme.name)
    assert issubclass(store, stores.Store)
    assert store.scheme is scheme
    assert bool(store.secret_keys) <= scheme.takes_credentials


def test_every_module_of_the_stores_is_a_scheme() -> None:
    modules = {module.name for module in pkgutil.iter_modules(stores.__path__)}
    assert modules - SHARED == SCHEMES.keys()


@pytest.mark.parametrize("uri", ["ftp://host/a", "", "models/digits", "base://a", "bucket://a"])
def test_other_schemes_have_none(uri: str) -> None:
    with pytest.raises(FetchError, match="begins with none of pvc://, "):
        stores.store_of(uri)


@EVERY
def test_the_docs_tell_the_scheme_and_the_keys_of_its_secret(scheme: Scheme) -> None:
    assert f"| `{scheme.form}` |" in FETCH_DOCS
    keys = stores.store_class(scheme.name).secret_keys
    assert [key for key in keys if f"`{key}`" not in FETCH_DOCS] == []
