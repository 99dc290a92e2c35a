"""What the build says of a SavedModel that it wrote: a small file among the SavedModel's extra assets.

TensorFlow passes over the folder `EXTRA_ASSETS`. The conversion reads the file, so it need not guess where
the network begins and where its classifier begins.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from serval_serving.accel.artifact import ArtifactError, Preprocessing, parse_preprocessing

EXTRA_ASSETS: Final = "assets.extra"
RECORD_FILE: Final = "serval.build.json"
FORMAT: Final = 1
MAX_RECORD_BYTES: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class BuildRecord:
    """What was built.

    Attributes
    ----------
    images:
        Name of the input tensor, which takes photos as strings of JPEG or PNG.
    input:
        Name of the tensor with the preprocessed photos: the network's input.
    features:
        Names of the tensors at the end of the device part; what follows is the classifier. Empty for a
        network without a classifier.
    preprocessing:
        What lies between `images` and `input`; None where `Preprocessing` cannot say it.
    network:
        Name in the catalogue; empty for one that is not there.
    weights:
        ``Random``, ``User`` or ``ImageNet``.
    """

    images: str
    input: str
    features: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None
    network: str = ""
    weights: str = "User"


def write_build_record(saved_model: Path, record: BuildRecord) -> None:
    """Write the record into a SavedModel's folder.

    Raises
    ------
    OSError
        It cannot be written.
    """
    folder = saved_model / EXTRA_ASSETS
    folder.mkdir(exist_ok=True)
    text = json.dumps({"format": FORMAT, **asdict(record)}, indent=1, sort_keys=True)
    (folder / RECORD_FILE).write_text(text + "\n", encoding="utf-8")


def read_build_record(saved_model: Path) -> BuildRecord | None:
    """Read the record of a SavedModel; None where the build did not write the model.

    Raises
    ------
    ArtifactError
        There is a file, but it is no record that this version reads.
    """
    try:
        with (saved_model / EXTRA_ASSETS / RECORD_FILE).open("rb") as file:
            data = file.read(MAX_RECORD_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if len(data) > MAX_RECORD_BYTES:
        raise ArtifactError(f"{RECORD_FILE} has more than {MAX_RECORD_BYTES} bytes")
    try:
        return _record(json.loads(data))
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{RECORD_FILE} is not as expected: {type(error).__name__}: {error}") from None


def _record(fields: Mapping[str, Any]) -> BuildRecord:
    if fields["format"] != FORMAT:
        raise ValueError(f"format {fields['format']!r}, and this version reads {FORMAT}")
    preprocessing = fields.get("preprocessing")
    return BuildRecord(
        images=str(fields["images"]),
        input=str(fields["input"]),
        features=tuple(str(name) for name in fields.get("features", ())),
        preprocessing=None if preprocessing is None else parse_preprocessing(preprocessing),
        network=str(fields.get("network", "")),
        weights=str(fields.get("weights", "User")),
    )
