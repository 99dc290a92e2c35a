"""SavedModels, archives and folders for tests, built byte by byte."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

MEGABYTE = 1 << 20


def varint(value: int) -> bytes:
    value %= 2**64
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def chunk(field: int, content: bytes | str) -> bytes:
    data = content.encode() if isinstance(content, str) else content
    return varint(field << 3 | 2) + varint(len(data)) + data


def tensor(name: str, dtype: int, dims: tuple[int, ...] | None) -> bytes:
    shape = number(3, 1) if dims is None else b"".join(chunk(2, number(1, dim)) for dim in dims)
    return chunk(1, name) + number(2, dtype) + chunk(3, shape)


def signature(inputs: Mapping[str, bytes], outputs: Mapping[str, bytes]) -> bytes:
    parts = [chunk(1, chunk(1, alias) + chunk(2, info)) for alias, info in inputs.items()]
    parts += [chunk(2, chunk(1, alias) + chunk(2, info)) for alias, info in outputs.items()]
    return b"".join([*parts, chunk(3, "tensorflow/serving/predict")])


DIGITS = signature(
    {"images": tensor("serving_default_images:0", 7, (-1,))},
    {
        "probabilities": tensor("StatefulPartitionedCall:1", 1, (-1, 10)),
        "classes": tensor("StatefulPartitionedCall:0", 9, (-1,)),
    },
)


def saved_model(
    tags: tuple[str, ...] = ("serve",),
    signatures: Mapping[str, bytes] | None = None,
    graph: bytes = b"\x01" * 100,
) -> bytes:
    if signatures is None:
        signatures = {"serving_default": DIGITS, "__saved_model_init_op": b""}
    info = chunk(2, chunk(1, chunk(1, "Op"))) + b"".join(chunk(4, tag) for tag in tags)
    entries = b"".join(chunk(5, chunk(1, name) + chunk(2, body)) for name, body in signatures.items())
    return number(1, 1) + chunk(2, chunk(1, info) + chunk(2, graph) + entries)


def model_files(weights: bytes = b"weights") -> dict[str, bytes]:
    return {"saved_model.pb": saved_model(), "variables/variables.data-00000-of-00001": weights}


def below(prefix: str, files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {f"{prefix}/{name}": content for name, content in files.items()}


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def tar(files: Mapping[str, bytes], mode: str = "w:gz") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def tar_of(*members: tarfile.TarInfo, content: bytes = b"") -> bytes:
    """A plain tar of members that `tar` would not make; `content` follows each that has a size."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:") as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(content) if member.size else None)
    return out.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = link
    info.size = size
    return info


def zipped(files: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()
