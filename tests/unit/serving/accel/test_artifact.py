"""An artifact's description: what is written is read back, and what is wrong is named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serval_serving.accel.artifact import (
    CLASSIFIER_FILE,
    CONVERSION_FILE,
    DEVICE_ONNX,
    STRING,
    ArtifactError,
    Conversion,
    Host,
    Part,
    Preprocessing,
    Tensor,
    parse_conversion,
    read_conversion,
)

PHOTOS = Tensor("images:0", STRING, (None,))
IMAGE = Tensor("InputImage:0", "float32", (None, 224, 224, 3))
FEATURES = Tensor("features:0", "float32", (None, 1, 1, 2048))
SCORES = Tensor("scores:0", "float32", (None, 1000))
CONVERSION = Conversion(
    inputs={"images": PHOTOS},
    outputs={"output_alias": SCORES},
    host=Host(
        "Images",
        (PHOTOS,),
        (IMAGE,),
        Preprocessing(224, 224, "ShorterSide", 256, "RGB", (123.68, 116.779, 103.939), (1.0, 1.0, 1.0)),
    ),
    device=Part(DEVICE_ONNX, "sha256:" + "0" * 64, (IMAGE,), (FEATURES,)),
    classifier=Part(CLASSIFIER_FILE, "sha256:" + "1" * 64, (FEATURES,), (SCORES,)),
    quantization="Int8",
    network="ResNet50",
    report={"cosine": 0.993},
)


def test_what_is_written_is_read_back() -> None:
    assert parse_conversion(CONVERSION.dump()) == CONVERSION


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda fields: fields.update(format=2), "format 2"),
        (lambda fields: fields.pop("device"), "device"),
        (lambda fields: fields["device"].update(file="../../etc/passwd"), "passwd"),
        (lambda fields: fields["host"].update(kind="Graph"), "preprocessing"),
        (lambda fields: fields["host"]["preprocessing"].update(means=[1.0]), "unpack"),
        (lambda fields: fields["inputs"]["images"].update(shape=[-1]), "-1"),
        (lambda fields: fields.update(quantization="Int4"), "Int4"),
    ],
)
def test_what_is_wrong_is_named(change: Callable[[dict[str, Any]], object], words: str) -> None:
    fields = json.loads(CONVERSION.dump())
    change(fields)
    with pytest.raises(ArtifactError, match=words):
        parse_conversion(json.dumps(fields))


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_no_object_is_refused(text: str) -> None:
    with pytest.raises(ArtifactError):
        parse_conversion(text)


def test_a_folder_without_its_files_is_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=CONVERSION_FILE):
        read_conversion(tmp_path)
    (tmp_path / CONVERSION_FILE).write_text(CONVERSION.dump(), encoding="utf-8")
    with pytest.raises(ArtifactError, match=DEVICE_ONNX):
        read_conversion(tmp_path)
    (tmp_path / DEVICE_ONNX).touch()
    with pytest.raises(ArtifactError, match=CLASSIFIER_FILE):
        read_conversion(tmp_path)
    (tmp_path / CLASSIFIER_FILE).touch()
    assert read_conversion(tmp_path) == CONVERSION
