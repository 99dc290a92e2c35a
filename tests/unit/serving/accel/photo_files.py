"""Photos as files of each kind that decoders treat in a way of its own."""

from __future__ import annotations

import functools
import io
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_images

ORIENTATION = 0x112
"""Number of the tag in EXIF."""


def photo() -> Image.Image:
    """A real photo of 640x427 pixels, which scikit-learn brings."""
    return Image.fromarray(load_sample_images().images[0])


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(*shape: int, bits: int = 8) -> NDArray[Any]:
    values = np.random.default_rng(7).integers(0, 2**bits, shape)
    return values.astype(np.uint16 if bits == 16 else np.uint8)


def png(pixels: NDArray[Any], colour: int) -> bytes:
    """A PNG of 16 bits. `colour`: 0 grey, 2 RGB, 4 grey and alpha, 6 RGBA. Pillow writes only the first."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def without_adobe_marker(jpeg: bytes) -> bytes:
    """A JPEG without the segment that says that its CMYK is inverted."""
    start = jpeg.index(b"\xff\xee")
    return jpeg[:start] + jpeg[start + 2 + int.from_bytes(jpeg[start + 2 : start + 4], "big") :]


@functools.cache
def kinds() -> dict[str, bytes]:
    """Files by a word that says what is special about each."""
    colour = photo().resize((161, 107))
    rotated = Image.Exif()
    rotated[ORIENTATION] = 6
    cmyk = encoded(colour.convert("CMYK"), "JPEG")
    palette = colour.quantize(256)
    return {
        "jpeg": encoded(colour, "JPEG"),
        "jpeg without subsampling": encoded(colour, "JPEG", subsampling=0),
        "progressive jpeg": encoded(colour, "JPEG", progressive=True),
        "grey jpeg": encoded(colour.convert("L"), "JPEG"),
        "cmyk jpeg": cmyk,
        "cmyk jpeg, not inverted": without_adobe_marker(cmyk),
        "rotated by exif": encoded(colour, "JPEG", exif=rotated),
        "png": encoded(colour, "PNG"),
        "grey png": encoded(colour.convert("L"), "PNG"),
        "one bit": encoded(colour.convert("1"), "PNG"),
        "palette": encoded(palette, "PNG"),
        "palette of 4 bits": encoded(colour.quantize(16), "PNG", bits=4),
        "palette with a transparent colour": encoded(palette, "PNG", transparency=3),
        "palette with alpha": encoded(palette, "PNG", transparency=bytes(range(256))),
        "transparent colour": encoded(colour, "PNG", transparency=(1, 2, 3)),
        "transparent grey": encoded(colour.convert("L"), "PNG", transparency=3),
        "rgba": encoded(Image.fromarray(noise(31, 40, 4)), "PNG"),
        "grey and alpha": encoded(Image.fromarray(noise(31, 40, 2)), "PNG"),
        "16 bits grey": png(noise(31, 40, 1, bits=16), 0),
        "16 bits grey and alpha": png(noise(31, 40, 2, bits=16), 4),
        "16 bits rgb": png(noise(31, 40, 3, bits=16), 2),
        "16 bits rgba": png(noise(31, 40, 4, bits=16), 6),
    }


@functools.cache
def sizes() -> dict[str, bytes]:
    """Photos whose resizing is rounded in different ways."""
    whole = photo()
    return {
        f"{width}x{height}": encoded(whole.resize((width, height)), "PNG")
        for width, height in ((640, 427), (300, 451), (57, 43), (224, 1000), (256, 256), (1, 1), (3, 700))
    }
