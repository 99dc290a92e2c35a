"""The CRD of another kind: it shares blocks, and its parser and keys follow from the same source."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass, replace
from typing import Annotated, Any

import pytest
import yaml
from tools.crds import crd_text, field_rows, not_shaping

from serval_operator.api.blocks.source import ModelSource
from serval_operator.api.parse import parse_block
from serval_operator.api.schema import Block, Text, Whole, fields_of
from serval_operator.errors import InvalidSpec
from serval_operator.kinds.model_deployment.crd import MODEL_DEPLOYMENT_CRD
from serval_operator.workload.revision_key import shape
from support.toy.spec import TOY_CRD, ToySpec
from unit.crd.schema import CRD_FILE, Schema, walk

pytestmark = pytest.mark.unit

MODEL = {"uri": "pvc://models/digits"}


def schema_of(document: dict[str, Any]) -> Schema:
    (version,) = document["spec"]["versions"]
    return dict(version["schema"]["openAPIV3Schema"]["properties"]["spec"])


def test_the_text_of_a_crd_is_its_document() -> None:
    assert yaml.safe_load(crd_text(TOY_CRD)) == TOY_CRD.document()
    assert yaml.safe_load(CRD_FILE.read_text(encoding="utf-8")) == MODEL_DEPLOYMENT_CRD.document()


def test_the_text_has_no_anchors_and_folds_long_texts() -> None:
    text = crd_text(TOY_CRD)
    assert "&id" not in text
    assert "description: >-\n" in text
    assert "required: [model, steps]" in text


def test_kinds_share_blocks() -> None:
    toy, model = (schema_of(crd.document())["properties"] for crd in (TOY_CRD, MODEL_DEPLOYMENT_CRD))
    for name in ("model", "scheduling"):
        assert {**toy[name], "description": ""} == {**model[name], "description": ""}


def test_names_of_the_kind() -> None:
    document = TOY_CRD.document()
    assert document["metadata"]["name"] == "toys.serval.dev"
    assert document["spec"]["names"]["listKind"] == "ToyList"
    (version,) = document["spec"]["versions"]
    assert version["subresources"] == {"status": {}}


def test_required_fields_and_stored_defaults() -> None:
    schema = schema_of(TOY_CRD.document())
    assert schema["required"] == ["model", "steps"]
    defaults = {path: child["default"] for path, child in walk(schema) if "default" in child}
    assert defaults == {".accelerator.count": 1, ".mode": "Forward", ".model.caConfigMapRef.key": "ca.crt"}


def test_shared_blocks_name_their_path_in_the_kind() -> None:
    with pytest.raises(InvalidSpec, match=r"^`spec\.toy\.model\.name` must not be the reserved name"):
        parse_block(ToySpec, "spec.toy", {"model": {**MODEL, "name": "batching.config"}, "steps": 1})


def test_a_parsed_block_is_like_a_constructed_one() -> None:
    """The parser does not call ``__init__``."""
    parsed = parse_block(ToySpec, "spec", {"model": MODEL, "steps": 2})
    made = ToySpec(model=ModelSource(uri=MODEL["uri"]), steps=2)
    assert (parsed, hash(parsed.model), repr(parsed)) == (made, hash(made.model), repr(made))
    assert replace(parsed, steps=3) == replace(made, steps=3)
    with pytest.raises(FrozenInstanceError):
        parsed.steps = 3  # type: ignore[misc]


def test_errors_name_keys_and_items() -> None:
    spec = {"model": MODEL, "steps": 1}
    for scheduling, path in (
        ({"nodeSelector": {"zone": "a", "pool": 1}}, r"spec\.scheduling\.nodeSelector\.pool"),
        ({"tolerations": [{"key": "a"}, {"key": ""}]}, r"spec\.scheduling\.tolerations\[\]\.key"),
    ):
        with pytest.raises(InvalidSpec, match=f"^`{path}` must be a text of "):
            parse_block(ToySpec, "spec", {**spec, "scheduling": scheduling})


def test_keys_contain_what_shapes_pods() -> None:
    parsed = parse_block(ToySpec, "spec", {"model": MODEL, "steps": 2, "suspend": True, "mode": "Forward"})
    assert shape(parsed) == {"model": MODEL, "steps": 2}
    of_devices = ["spec.accelerator.whenUnavailable", "spec.accelerator.whenBusy"]
    assert list(not_shaping(ToySpec, "spec")) == [*of_devices, "spec.suspend"]


def test_rows_of_the_documents() -> None:
    rows = field_rows(TOY_CRD, "spec.steps", "spec.mode", "spec.model")
    assert ["`spec.steps`", "1 to 100, required", "Number of steps."] in rows
    assert ["`spec.mode`", "`Forward`, `Backward`, default `Forward`", "Order of the steps."] in rows
    assert "`spec.model.credentials.secretRef.name`" in [row[0] for row in rows]
    assert not [row for row in rows if row[0].startswith(("`spec.scheduling", "`spec.suspend", "`status"))]


def test_a_field_without_a_description_is_an_error() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Bare(Block):
        described: Annotated[int, Whole("A number.", 0, 1)]
        bare: int = 0

    with pytest.raises(TypeError, match=r"Bare\.bare must be annotated"):
        fields_of(Bare)


@pytest.mark.parametrize(
    ("least", "most", "size"),
    [(0, 2**31 - 1, "int32"), (0, 2**31, "int64"), (-(2**31), 0, "int32"), (-(2**31) - 1, 0, "int64")],
)
def test_the_size_of_a_number_follows_from_its_bounds(least: int, most: int, size: str) -> None:
    assert Whole("A number.", least, most).schema()["format"] == size


def test_bounds_that_are_not_set_are_left_out() -> None:
    assert Text("A text.", max_length=5).schema() == {
        "description": "A text.",
        "type": "string",
        "maxLength": 5,
    }
