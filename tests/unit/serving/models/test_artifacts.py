"""Artifacts of accelerated models, as the fetcher and the server tell them from other models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from serval_serving.accel.artifact import CONVERSION_FILE, DEVICE_ONNX, STRING
from serval_serving.fetch.errors import FetchError
from serval_serving.fetch.model.frameworks import FRAMEWORKS
from serval_serving.models.artifacts import DATA_TYPES, read_artifact_signature
from serval_serving.models.formats import ARTIFACT_FORMAT, format_of
from serval_serving.models.savedmodel import ModelInvalid
from serval_serving.wire.dtypes import dtype_of
from unit.serving.engines.artifacts import write_artifact

FILES = [CONVERSION_FILE, DEVICE_ONNX]


def test_an_artifact_is_no_onnx_model() -> None:
    """Its device part is the only file with that ending."""
    assert format_of(FILES) is ARTIFACT_FORMAT
    assert FRAMEWORKS["Accelerated"].marker(FILES) == CONVERSION_FILE
    with pytest.raises(FetchError, match="which the server would load"):
        FRAMEWORKS["ONNX"].marker(FILES)
    refusal = FRAMEWORKS["TensorFlow"].wrong(FILES, "the source")
    assert refusal is not None
    assert str(refusal).endswith(
        "the source holds an artifact of an AcceleratedModel, and a SavedModel is asked for; create an"
        " AcceleratedModel with this artifact"
    )


def test_the_fetcher_reads_the_signature(tmp_path: Path) -> None:
    found = FRAMEWORKS["Accelerated"].read(write_artifact(tmp_path), ())
    assert found is not None
    assert {alias: (one.name, one.dtype, one.shape) for alias, one in found.inputs.items()} == {
        "images": ("Placeholder:0", "DT_STRING", (-1,))
    }
    assert list(found.outputs) == ["features", "output_alias"]


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / CONVERSION_FILE).write_text("[]")
    with pytest.raises(ModelInvalid, match="no JSON object"):
        read_artifact_signature(tmp_path)


def test_types_are_those_of_the_wire() -> None:
    numbers = {name: dtype_of(np.empty(0, name)).name for name in DATA_TYPES if name != STRING}
    assert {**numbers, STRING: "DT_STRING"} == DATA_TYPES
