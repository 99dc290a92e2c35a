"""Files that no program writes, and that repeat what the contract and the table of capabilities say."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from serval_contract import server_flags
from serval_contract.models import ACCELERATED, FRAMEWORKS, WEIGHTS
from serval_contract.paths import MODELS_DIR, MONITORING_FILE, RESERVED_NAMES
from serval_contract.reasons import FETCH_REASONS
from serval_operator.api.capabilities import CAPABILITIES
from serval_serving.fetch.model import frameworks
from unit.crd.schema import CRD_FILE, ROOT

CHART = ROOT / "charts" / "serval"
RUNTIME: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))[
    "definitions"
]["runtime"]["properties"]
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
FETCH_DOCS = (ROOT / "docs" / "fetch.md").read_text(encoding="utf-8")
CHART_DOCS = (CHART / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def spec() -> dict[str, Any]:
    """Fields of a ModelDeployment's spec, in the CRD."""
    (version,) = yaml.safe_load(CRD_FILE.read_text(encoding="utf-8"))["spec"]["versions"]
    return dict(version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"])


def test_frameworks(spec: dict[str, Any]) -> None:
    known = list(FRAMEWORKS)
    assert spec["model"]["properties"]["framework"]["enum"] == known
    assert RUNTIME["frameworks"]["items"]["enum"] == known
    # A spec of a ModelDeployment cannot ask for an artifact, or for weights.
    assert list(frameworks.FRAMEWORKS) == [ACCELERATED, *known, WEIGHTS]


def test_the_names_that_no_model_may_have(spec: dict[str, Any]) -> None:
    (rule,) = spec["model"]["properties"]["name"]["x-kubernetes-validations"]
    names = ", ".join(f"'{name}'" for name in RESERVED_NAMES)
    assert rule["rule"] == f"!(self in [{names}])"


def test_the_flags_that_the_operator_sets_are_refused_in_a_spec(spec: dict[str, Any]) -> None:
    rules = spec["runtime"]["properties"]["args"]["items"]["x-kubernetes-validations"]
    (refused,) = [match[1] for one in rules if (match := re.search(r"\^--\(([\w|]+)\)", one["rule"]))]
    own = (
        server_flags.PORT,
        server_flags.REST_API_PORT,
        server_flags.MODEL_NAME,
        server_flags.MODEL_BASE_PATH,
        server_flags.MONITORING_CONFIG_FILE,
    )
    assert {flag.name for flag in own} <= set(refused.split("|"))


def test_the_official_server_reads_the_file_that_the_fetcher_writes() -> None:
    argument = server_flags.MONITORING_CONFIG_FILE(f"{MODELS_DIR}/{MONITORING_FILE}")
    assert VALUES["runtimes"]["tensorflow-serving"]["args"] == [argument]
    assert f"args: [{argument}]" in CHART_DOCS


def test_the_docs_of_the_fetcher_list_its_reasons() -> None:
    rows = re.findall(r"^\| (Model[A-Za-z]+) \|", FETCH_DOCS, flags=re.MULTILINE)
    assert sorted(rows) == sorted(FETCH_REASONS)


def test_the_chart_takes_every_capability() -> None:
    assert RUNTIME["capabilities"]["items"]["enum"] == list(CAPABILITIES)


def test_our_own_server_has_every_capability() -> None:
    assert VALUES["runtimes"]["serval"]["capabilities"] == list(CAPABILITIES)


def test_the_chart_s_readme_tells_every_capability() -> None:
    table = CHART_DOCS.partition("| capability | the server |\n")[2].partition("\n\n")[0]
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| (.*) \|$", table, flags=re.MULTILINE))
    assert rows == {name: one.meaning for name, one in CAPABILITIES.items()}


def test_a_capability_that_a_spec_may_ask_for_names_a_field_of_the_spec(spec: dict[str, Any]) -> None:
    for one in CAPABILITIES.values():
        if not one.field:
            assert not one.added_by_front, f"nothing asks for {one.name}, so no front is needed for it"
            continue
        root, block, field = one.field.split(".")
        assert root == "spec"
        assert field in spec[block]["properties"]
