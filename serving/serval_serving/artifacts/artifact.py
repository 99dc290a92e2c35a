"""The image of an artifact: which of its files are in which layer, and what its annotations say.

There are two layers. The lower one has what computes, and is large; the upper one has `conversion.json` and
the log. So reading a report needs few bytes, and a model that is converted again to the same files shares
them.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from serval_serving.accel.artifact import (
    CONVERSION_FILE,
    HOST_FILE,
    MAX_CONVERSION_BYTES,
    ArtifactError,
    Conversion,
    parse_conversion,
)
from serval_serving.artifacts import image as names
from serval_serving.artifacts.errors import artifact_invalid, registry_rejected
from serval_serving.artifacts.folder import File, Limits, bytes_file, read_folder
from serval_serving.artifacts.image import Image, annotation, created, make_image
from serval_serving.artifacts.layer import Layer, make_layer

LOG_FILE: Final = "conversion.log"
MAX_REPORT_BYTES: Final = 8 << 20
"""Of the upper layer: the report and the log."""
_REPORT_FILES: Final = frozenset({CONVERSION_FILE, LOG_FILE})
_TIME_VARIABLE: Final = "SOURCE_DATE_EPOCH"
"""https://reproducible-builds.org/specs/source-date-epoch/"""


@dataclass(frozen=True, slots=True)
class Artifact:
    """An artifact that was read from a folder.

    Attributes
    ----------
    conversion:
        Its description.
    files:
        All its files.
    image:
        The image that it becomes.
    """

    conversion: Conversion
    files: tuple[File, ...]
    image: Image


def read_artifact(folder: Path, limits: Limits, *, cache_key: str = "", compress: bool = False) -> Artifact:
    """Read an artifact's folder and plan its image.

    Parameters
    ----------
    limits:
        What the folder may have.
    cache_key:
        What the conversion depended on; an annotation. Empty for none.
    compress:
        Whether to compress the layer of files by gzip.

    Raises
    ------
    ArtifactFailure
        ``ArtifactInvalid`` if it is no artifact or holds what is refused; ``ArtifactTooLarge``.
    """
    files = read_folder(folder, limits)
    conversion = _conversion(files)
    notes = _notes(conversion, cache_key) | {names.CREATED: created(_time(folder))}
    return Artifact(conversion, tuple(files), make_image(_layers(files, compress=compress), notes))


def is_same(artifact: Artifact, manifest: bytes, report: Sequence[File]) -> bool:
    """Return whether a stored image holds this artifact, except for what its conversion measured.

    Anyone who may push to the repository may write any tag and any annotation. So neither counts: the image
    is made once more of the artifact's own files, the stored report and the stored annotations, and must have
    the bytes of the stored manifest. A pod then mounts what is in `artifact`, except for the report and the
    log.

    Parameters
    ----------
    manifest:
        The stored manifest.
    report:
        Files of the stored upper layer.
    """
    if not _agrees(artifact.conversion, report):
        return False
    computing = [layer for layer in artifact.image.layers if _kind(layer) == names.FILES]
    notes = json.loads(manifest).get("annotations")
    return make_image([*computing, _report_layer(report)], notes).manifest == manifest


def read_report(data: bytes) -> list[File]:
    """Read the files of an upper layer, whose digest was compared.

    Raises
    ------
    ArtifactFailure
        ``RegistryRejected`` if it is no tar of the two files that it may have.
    """
    try:
        return [bytes_file(name, content) for name, content in _members(data)]
    except (tarfile.TarError, ValueError, EOFError, OSError) as error:
        raise registry_rejected("the layer with the report is damaged") from error


def _conversion(files: Sequence[File]) -> Conversion:
    """Read `conversion.json`, and check that what it names is there."""
    found = {file.name: file for file in files}
    if CONVERSION_FILE not in found:
        raise artifact_invalid(f"the folder has no {CONVERSION_FILE}, so it is no artifact")
    if found[CONVERSION_FILE].size > MAX_CONVERSION_BYTES:
        raise artifact_invalid(f"{CONVERSION_FILE} has more than {MAX_CONVERSION_BYTES} bytes")
    try:
        conversion = parse_conversion(b"".join(found[CONVERSION_FILE].chunks()))
    except ArtifactError as error:
        raise artifact_invalid(str(error)) from error
    named = [part.file for part in (conversion.device, conversion.classifier) if part is not None]
    named += [HOST_FILE] if conversion.host.kind == "Graph" else []
    for name in named:
        if name not in found:
            raise artifact_invalid(f"the artifact has no {name}, which {CONVERSION_FILE} names")
    return conversion


def _members(data: bytes) -> Iterator[tuple[str, bytes]]:
    seen: set[str] = set()
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        for member in archive:
            if not member.isreg() or member.name not in _REPORT_FILES - seen:
                raise ValueError("a report has one or two plain files")
            seen.add(member.name)
            opened = archive.extractfile(member)
            yield member.name, b"" if opened is None else opened.read(MAX_REPORT_BYTES)


def _agrees(conversion: Conversion, report: Sequence[File]) -> bool:
    texts = {file.name: b"".join(file.chunks()) for file in report}
    data = texts.get(CONVERSION_FILE, b"")
    if len(data) > MAX_CONVERSION_BYTES:
        return False
    try:
        stored = parse_conversion(data)
    except ArtifactError:
        return False
    return replace(stored, report={}) == replace(conversion, report={})


def _layers(files: Sequence[File], *, compress: bool) -> list[Layer]:
    computing = [file for file in files if file.name not in _REPORT_FILES]
    layer = make_layer(
        computing,
        compress=compress,
        made_by="serval: files of the converted model",
        annotations={names.LAYER: names.FILES},
    )
    return [layer, _report_layer([file for file in files if file.name in _REPORT_FILES])]


def _report_layer(files: Sequence[File]) -> Layer:
    if sum(file.size for file in files) > MAX_REPORT_BYTES:
        raise artifact_invalid(
            f"{' and '.join(sorted(_REPORT_FILES))} have more than {MAX_REPORT_BYTES} bytes"
        )
    return make_layer(files, made_by="serval: report", annotations={names.LAYER: names.REPORT})


def _kind(layer: Layer) -> str:
    return layer.blob.annotations.get(names.LAYER, "")


def _notes(conversion: Conversion, cache_key: str) -> dict[str, str]:
    notes: Mapping[str, str] = {
        names.CACHE_KEY: cache_key,
        names.NETWORK: conversion.network,
        names.WEIGHTS: conversion.weights,
        names.QUANTIZATION: conversion.quantization,
        names.SOURCE_DIGEST: conversion.source_digest,
        names.CONVERTER: conversion.converter,
    }
    return {name: annotation(text) for name, text in notes.items() if text}


def _time(folder: Path) -> float:
    """Return when the artifact was made: a property of the folder, so that a second push changes nothing."""
    text = os.environ.get(_TIME_VARIABLE, "")
    return float(text) if text.isascii() and text.isdigit() else (folder / CONVERSION_FILE).lstat().st_mtime
