"""The CRD file itself: shape, bounds and words. What its rules do is tested on a real API server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from serval_operator import constants
from unit.crd.schema import CRD_FILE, Schema, walk

BOUNDS: dict[str, set[str]] = {
    "string": {"maxLength"},
    "integer": {"format", "minimum", "maximum"},
    "array": {"maxItems", "x-kubernetes-list-type"},
    "boolean": set(),
}


@pytest.fixture(scope="module")
def crd() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(CRD_FILE.read_text(encoding="utf-8"))
    return document


@pytest.fixture(scope="module")
def version(crd: dict[str, Any]) -> dict[str, Any]:
    (only,) = crd["spec"]["versions"]
    return dict(only)


@pytest.fixture(scope="module")
def schema(version: dict[str, Any]) -> Schema:
    return dict(version["schema"]["openAPIV3Schema"])


def rules(schema: Schema) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, child in (("", schema), *walk(schema)):
        for rule in child.get("x-kubernetes-validations", ()):
            yield path, rule


def missing_bounds(child: Schema) -> set[str]:
    """The bounds that a schema lacks."""
    kind = "string" if child.get("x-kubernetes-int-or-string") else child["type"]
    if kind == "object":
        wanted = {"maxProperties"} if "additionalProperties" in child else set()
    elif "enum" in child:
        wanted = set()
    else:
        wanted = BOUNDS[kind]
    return wanted - set(child)


def test_names_are_those_of_the_code(crd: dict[str, Any], version: dict[str, Any]) -> None:
    names = crd["spec"]["names"]
    assert crd["metadata"]["name"] == f"{names['plural']}.{constants.GROUP}"
    assert (crd["spec"]["group"], version["name"]) == (constants.GROUP, constants.VERSION)
    assert (names["kind"], names["shortNames"], names["categories"]) == (
        constants.MODEL_DEPLOYMENT,
        ["mdep"],
        ["serval"],
    )
    assert (version["served"], version["storage"]) == (True, True)


def test_is_small() -> None:
    assert CRD_FILE.stat().st_size < 100_000


def test_subresources(version: dict[str, Any]) -> None:
    assert version["subresources"] == {
        "status": {},
        "scale": {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        },
    }


def test_columns_in_their_order(version: dict[str, Any]) -> None:
    columns = [(one["name"].upper(), one.get("priority", 0)) for one in version["additionalPrinterColumns"]]
    assert [name for name, priority in columns if priority == 0] == [
        "AVAILABLE",
        "READY",
        "REASON",
        "REPLICAS",
        "MODEL",
        "ACCELERATOR",
        "AGE",
    ]
    assert [name for name, priority in columns if priority == 1] == [
        "ENDPOINT",
        "UPDATED",
        "REVISION",
        "POSITION",
        "HOLDER",
        "MESSAGE",
    ]


def test_spec_has_these_blocks(schema: Schema) -> None:
    assert list(schema["properties"]["spec"]["properties"]) == [
        "model",
        "autoscaling",
        "disruption",
        "runtime",
        "replicas",
        "resources",
        "accelerator",
        "scheduling",
        "endpoint",
        "probes",
        "suspend",
        "rollout",
        "imagePullSecrets",
        "podMetadata",
    ]


def test_every_field_is_described(schema: Schema) -> None:
    bare = [path for path, child in walk(schema) if not child.get("description")]
    assert bare == [".metadata"]  # the API server describes it


def test_every_field_is_bounded(schema: Schema) -> None:
    own = [(path, child) for path, child in walk(schema) if path.startswith((".spec", ".status"))]
    assert len(own) > 100
    assert {path: bounds for path, child in own if (bounds := missing_bounds(child))} == {}


def test_nothing_is_open(schema: Schema) -> None:
    for path, child in walk(schema):
        assert not child.get("x-kubernetes-preserve-unknown-fields"), path
        assert not child.get("nullable"), path


def test_defaults_are_these_and_no_more(schema: Schema) -> None:
    assert {path: child["default"] for path, child in walk(schema) if "default" in child} == {
        ".spec.model.caConfigMapRef.key": "ca.crt",
        ".spec.replicas": 1,
        ".spec.accelerator.count": 1,
        ".status": {"observedGeneration": -1},
    }


def test_every_rule_says_what_must_hold(schema: Schema) -> None:
    found = list(rules(schema))
    assert len(found) >= 25
    assert [(path, one["rule"]) for path, one in found if " must " not in f" {one.get('message', '')} "] == []


def test_longest_name_is_the_one_that_the_code_knows(schema: Schema) -> None:
    (rule,) = schema["x-kubernetes-validations"]
    assert f"size() <= {constants.MAX_NAME} " in rule["rule"]


@pytest.mark.parametrize("kind", ["labels", "annotations"])
def test_reserved_domains_include_those_that_the_operator_refuses(schema: Schema, kind: str) -> None:
    metadata = schema["properties"]["spec"]["properties"]["podMetadata"]["properties"][kind]
    texts = " ".join(rule["message"] for rule in metadata["x-kubernetes-validations"])
    patterns = " ".join(rule["rule"] for rule in metadata["x-kubernetes-validations"])
    for domain in constants.RESERVED_METADATA_DOMAINS:
        assert domain in texts
        assert domain.replace(".", "\\\\.") in patterns


def test_condition_types_of_the_code_are_described(schema: Schema) -> None:
    description = schema["properties"]["status"]["properties"]["conditions"]["description"]
    for condition in (
        constants.READY,
        constants.AVAILABLE,
        constants.SCHEDULED,
        constants.MODEL_FETCHED,
        constants.MODEL_LOADED,
        constants.ENDPOINT_READY,
        constants.UPDATE_AVAILABLE,
        constants.RECONCILING,
        constants.STALLED,
    ):
        assert condition in description
