"""What the calibration sees: photos of the user, those that come with a package, or random pictures."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import tensorflow as tf

from serval_serving.accel.convert.failures import bad_calibration
from serval_serving.accel.photos import decode_photo

Array = np.ndarray[Any, Any]
Origin = Literal["Folder", "Photos", "Random"]

MAX_FILES: Final = 1000
"""Of a folder; the others are not looked at."""
MAX_FILE_BYTES: Final = 32 << 20
SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png"})
_PACKAGE: Final = "skimage"
"""scikit-image has about 20 photos in its wheel."""
_SIDE: Final = 256
_SMALLEST: Final = 64
"""Shorter sides are no photos."""
_SEED: Final = 20_26


@dataclass(frozen=True, slots=True)
class _Photo:
    """A file that can be decoded, and the size of its photo in pixels."""

    path: Path
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class _Part:
    """A photo, or a square part of it: its upper left corner and its side."""

    path: Path
    square: tuple[int, int, int] | None = None
    mirrored: bool = False

    def encoded(self) -> bytes:
        """Return it as a PNG file."""
        photo = _decoded(self.path)
        if photo is None:
            raise bad_calibration(f"the photo {self.path.name} changed while it was read")
        if self.square is None:
            return encode(photo)
        top, left, side = self.square
        part = photo[top : top + side, left : left + side]
        return encode(np.ascontiguousarray(part[:, ::-1] if self.mirrored else part))


@dataclass(frozen=True, slots=True)
class _Parts(Sequence[bytes]):
    """Parts of photos, each of which is decoded when it is asked for: photos of a camera are large."""

    parts: tuple[_Part, ...]

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return _Parts(self.parts[index])
        return self.parts[index].encoded()


@dataclass(frozen=True, slots=True)
class Pictures:
    """Encoded pictures, as a request has them.

    Attributes
    ----------
    origin:
        ``Folder`` of the user, ``Photos`` of a package, or ``Random``.
    encoded:
        JPEG or PNG files, which may be made each time that they are asked for.
    skipped:
        Files that are none of both or too large.
    """

    origin: Origin
    encoded: Sequence[bytes]
    skipped: int = 0


def pictures(folder: Path | None, count: int) -> Pictures:
    """Return `count` pictures: the files, and where these are too few, parts of them.

    Raises
    ------
    StageFailure
        The folder of the user has none.
    """
    if folder is not None:
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)[:MAX_FILES]
        chosen, skipped = _readable(files, count)
        if not chosen:
            raise bad_calibration(
                f"the folder for the calibration has no usable JPEG or PNG file; {skipped} were tried"
            )
        return Pictures("Folder", _enough(chosen, count, whole=True), skipped)
    chosen, _ = _readable(packaged(), count)
    if chosen:
        return Pictures("Photos", _enough(chosen, count, whole=False))
    return Pictures("Random", [encode(one) for one in smooth(count, _SIDE, _SIDE, 3)])


def arrays(folder: Path, shape: Sequence[int | None], dtype: str, count: int) -> Array:
    """Return inputs of a network that takes numbers, from ``.npy`` files of one input or of several.

    Raises
    ------
    StageFailure
        There is none that fits.
    """
    one = tuple(shape[1:])
    found: list[Array] = []
    for path in sorted(folder.rglob("*.npy"))[:MAX_FILES]:
        try:
            value = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            continue
        rows = value[None] if value.shape == one else value
        if rows.shape[1:] == one:
            found += [np.asarray(row, dtype) for row in rows[: count - len(found)]]
        if len(found) >= count:
            break
    if not found:
        raise bad_calibration(f"the folder for the calibration has no .npy file with inputs of shape {one}")
    return np.stack([found[index % len(found)] for index in range(count)])


def packaged() -> list[Path]:
    """Return the photos that an installed package has, without importing it."""
    found = importlib.util.find_spec(_PACKAGE)
    folders = [Path(one) / "data" for one in found.submodule_search_locations or ()] if found else []
    return sorted(path for folder in folders for path in folder.glob("*") if path.suffix.lower() in SUFFIXES)


def smooth(count: int, height: int, width: int, channels: int) -> Iterator[Array]:
    """Yield random pictures that are smooth, as photos are: bytes of shape (height, width, channels)."""
    generator = np.random.default_rng(_SEED)
    for _ in range(count):
        picture = np.zeros((height, width, channels), np.float32)
        for side, strength in ((4, 1.0), (16, 0.5), (64, 0.2)):
            noise = generator.uniform(-1, 1, (side, side, channels)).astype(np.float32)
            picture += strength * tf.image.resize(noise, (height, width), "bicubic").numpy()
        picture -= picture.min()
        yield (picture * (255 / max(float(picture.max()), 1e-6))).astype(np.uint8)


def encode(picture: Array) -> bytes:
    """Return a picture as a PNG file."""
    return bytes(tf.io.encode_png(picture).numpy())


def _readable(files: Sequence[Path], count: int) -> tuple[list[_Photo], int]:
    """Decode up to `count` files; return those that can be, and how many could not be used."""
    chosen: list[_Photo] = []
    skipped = 0
    for path in files:
        if len(chosen) == count:
            break
        picture = _decoded(path)
        if picture is None:
            skipped += 1
        else:
            chosen.append(_Photo(path, *picture.shape[:2]))
    return chosen, skipped


def _decoded(path: Path) -> Array | None:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        return None if len(data) > MAX_FILE_BYTES else decode_photo(data)
    except (OSError, ValueError):
        return None


def _enough(photos: Sequence[_Photo], count: int, *, whole: bool) -> Sequence[bytes]:
    """Return `count` pictures: the photos themselves, if `whole`, and random parts of them, half mirrored."""
    generator = np.random.default_rng(_SEED)
    large = [one for one in photos if min(one.height, one.width) >= _SMALLEST] or list(photos)
    made = [_Part(one.path) for one in photos[:count]] if whole else []
    while len(made) < count:
        photo = large[len(made) % len(large)]
        side = max(1, int(generator.uniform(0.5, 1) * min(photo.height, photo.width)))
        top, left = (int(generator.integers(0, size - side + 1)) for size in (photo.height, photo.width))
        made.append(_Part(photo.path, (top, left, side), mirrored=len(made) % 2 == 1))
    order = np.random.default_rng(_SEED).permutation(count)
    return _Parts(tuple(made[index] for index in order))
