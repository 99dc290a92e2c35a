"""Decodes photos to the pixels that TensorFlow's decoders give, by Pillow, within bounds.

A client sends any bytes, so what a file costs is bounded before its pixels are decoded: their number, and for
a JPEG of many scans the number of pixels times the number of scans.

The pixels equal those of `tf.io.decode_jpeg(dct_method="INTEGER_ACCURATE")`, which decodes PNG too, with
three channels: alpha is dropped and not blended, of 16 bits the upper 8 are kept, grey becomes three equal
channels, CMYK is multiplied with its black, and the orientation in EXIF is ignored. Differences:

- TensorFlow's default JPEG decoder (`decode_png` has no other) computes a faster, less exact transform: its
  pixels differ by 1 of 255 on average and by up to 7.
- TensorFlow also decodes GIF and BMP. Here these are refused.
- Pillow and TensorFlow may differ in which damaged files they refuse.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS: Final = 64_000_000
"""Of one photo. It takes three bytes for each."""
MAX_SCANNED_PIXELS: Final = 2**32
"""Pixels of a JPEG times its scans. A file of some megabytes can hold thousands of empty scans, each of which
visits all pixels; the usual progressive photo has ten."""
FORMATS: Final = ("JPEG", "PNG")

_START_OF_SCAN: Final = b"\xff\xda"
_BITS_OF_16: Final = 8
_PIXELS_AT_ONCE: Final = 1 << 16
"""Pixels of CMYK that are computed together: their products take ten times the memory of the photo."""


def decode_photo(data: bytes, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Return the pixels of a JPEG or PNG: red, green and blue, uint8 [height, width, 3].

    Parameters
    ----------
    data:
        The file.
    max_pixels:
        A photo with more is refused before it is decoded.

    Raises
    ------
    ValueError
        The bytes are no JPEG or PNG, are cut off or damaged, or have too many pixels.
    """
    from PIL import Image, UnidentifiedImageError  # noqa: PLC0415 - the catalogue is used without it

    if not data:
        raise ValueError("the photo has no bytes")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(image, data, max_pixels)
            return _rgb(image)
    except UnidentifiedImageError:
        raise ValueError("the bytes are neither a JPEG nor a PNG") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(f"the photo has more than {max_pixels} pixels") from None
    except (OSError, SyntaxError, IndexError, struct.error, zlib.error, EOFError) as error:
        # Pillow raises all of these for files that are cut off or damaged.
        raise ValueError(f"the photo cannot be decoded: {error}") from None


def _check_size(image: Image.Image, data: bytes, max_pixels: int) -> None:
    width, height = image.size
    pixels = width * height
    if pixels > max_pixels:
        raise ValueError(f"the photo has {width}x{height} pixels, more than {max_pixels}")
    scans = 0 if image.format == "PNG" else data.count(_START_OF_SCAN)
    if pixels * scans > MAX_SCANNED_PIXELS:
        raise ValueError(
            f"the photo is a JPEG of {width}x{height} pixels in {scans} scans, which would take too long"
        )


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith("I"):
        # Grey of 16 bits. Pillow would saturate at 255 and not keep the upper bits.
        grey = (np.asarray(image, np.uint32) >> _BITS_OF_16).astype(np.uint8)
        return np.repeat(grey[..., np.newaxis], 3, axis=2)
    if image.mode == "CMYK":
        return _rgb_of_cmyk(image)
    pixels: NDArray[np.uint8] = np.asarray(image if image.mode == "RGB" else _without_alpha(image))
    return pixels


def _without_alpha(image: Image.Image) -> Image.Image:
    image.load()
    # Otherwise Pillow warns about a palette with transparent colours.
    image.info.pop("transparency", None)
    return image.convert("RGB")


def _rgb_of_cmyk(image: Image.Image) -> NDArray[np.uint8]:
    image.load()
    result = np.empty((image.height, image.width, 3), np.uint8)
    rows = max(1, _PIXELS_AT_ONCE // image.width)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        cmyk: NDArray[Any] = np.asarray(image.crop((0, top, image.width, bottom)), np.uint16)
        # A file with Adobe's marker holds inverted values, which Pillow turns back, with the marker or not.
        light = 255 - cmyk if "adobe" in image.info else cmyk
        result[top:bottom] = light[..., :3] * light[..., 3:] // 255
    return result
