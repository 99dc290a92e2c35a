"""The record that the build leaves in a SavedModel."""

from __future__ import annotations

from pathlib import Path

import pytest

from serval_serving.accel.artifact import ArtifactError, Preprocessing
from serval_serving.accel.build_record import (
    EXTRA_ASSETS,
    RECORD_FILE,
    BuildRecord,
    read_build_record,
    write_build_record,
)

RECORD = BuildRecord(
    "images:0",
    "InputImage:0",
    ("features:0",),
    Preprocessing(224, 224, "ShorterSide", 256, "BGR", (103.939, 116.779, 123.68), (1.0, 1.0, 1.0)),
    "ResNet50",
    "Random",
)


@pytest.mark.parametrize("record", [RECORD, BuildRecord("images:0", "x:0")])
def test_what_is_written_is_read_back(tmp_path: Path, record: BuildRecord) -> None:
    write_build_record(tmp_path, record)
    assert read_build_record(tmp_path) == record


def test_a_strangers_model_has_none(tmp_path: Path) -> None:
    assert read_build_record(tmp_path) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": 2}',
        '{"format": 1, "images": "x"}',
        "[" * 10_000,
        " " * 70_000,
    ],
)
def test_what_is_no_record_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / EXTRA_ASSETS).mkdir()
    (tmp_path / EXTRA_ASSETS / RECORD_FILE).write_text(text)
    with pytest.raises(ArtifactError, match=RECORD_FILE):
        read_build_record(tmp_path)
