"""Photos as TensorFlow sees them, without TensorFlow; and photos that nothing can be done with."""

from __future__ import annotations

import importlib.util
import io
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from serval_serving.accel.catalogue import NETWORKS
from serval_serving.accel.photos import MAX_PIXELS, decode_photo
from serval_serving.accel.preprocess import crop_taps, preprocess
from unit.serving.accel.photo_files import encoded, kinds, photo, sizes
from unit.serving.accel.preprocessings import PREPROCESSINGS

PROGRAM = Path(__file__).with_name("tensorflow_photos.py")
RESNET = NETWORKS["ResNet50"].preprocessing["azure"]
needs_tensorflow = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed"
)


@pytest.fixture(scope="module")
def by_tensorflow(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, NDArray[Any]]:
    path = tmp_path_factory.mktemp("tensorflow") / "photos.npz"
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(path)], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    with np.load(path) as results:
        return dict(results)


@needs_tensorflow
@pytest.mark.parametrize("kind", kinds())
def test_pixels_equal_tensorflows(kind: str, by_tensorflow: Mapping[str, NDArray[Any]]) -> None:
    np.testing.assert_array_equal(decode_photo(kinds()[kind]), by_tensorflow[f"decoded/{kind}"])


@needs_tensorflow
@pytest.mark.parametrize("name", PREPROCESSINGS)
@pytest.mark.parametrize("size", sizes())
def test_the_input_equals_tensorflows(
    name: str, size: str, by_tensorflow: Mapping[str, NDArray[Any]]
) -> None:
    (ours,) = preprocess([sizes()[size]], PREPROCESSINGS[name])
    # Differences as of pixels from 0 to 255, whatever the scale of the network.
    difference = (ours - by_tensorflow[f"{name}/{size}"]) / np.asarray(
        PREPROCESSINGS[name].scales, np.float32
    )
    assert np.abs(difference).max() < 1e-3


def test_any_number_of_photos_of_any_size() -> None:
    files = list(sizes().values())
    together = preprocess(files, RESNET)
    assert together.shape == (len(files), 224, 224, 3)
    assert together.dtype == np.float32
    for file, row in zip(files, together, strict=True):
        np.testing.assert_array_equal(preprocess([file], RESNET)[0], row)
    assert preprocess([], RESNET).shape == (0, 224, 224, 3)


def _jpeg_of_many_scans() -> bytes:
    """A JPEG whose header says 8000x8000 pixels, with the marks of 200 scans behind it."""
    small = encoded(Image.new("RGB", (8, 8)), "JPEG")
    start = small.index(b"\xff\xc0")
    large = small[: start + 5] + (8000).to_bytes(2, "big") * 2 + small[start + 9 :]
    return large + b"\xff\xda" * 200


def _png_of(width: int, height: int) -> bytes:
    """A PNG of few bytes whose header says so many pixels."""
    small = encoded(Image.new("RGB", (1, 1)), "PNG")
    header = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + small[24:29]
    return small[:12] + header + zlib.crc32(header).to_bytes(4, "big") + small[33:]


BAD = {
    "nothing": (b"", "no bytes"),
    "a text": (b"no photo at all", "neither a JPEG nor a PNG"),
    "a gif": (encoded(Image.new("RGB", (4, 4)), "GIF"), "neither a JPEG nor a PNG"),
    "a bmp": (encoded(Image.new("RGB", (4, 4)), "BMP"), "neither a JPEG nor a PNG"),
    "the start of a jpeg": (encoded(photo(), "JPEG")[:1000], "cannot be decoded"),
    "half a jpeg": (encoded(photo(), "JPEG")[:20_000], "cannot be decoded: .*truncated"),
    "half a png": (encoded(photo(), "PNG")[:20_000], "cannot be decoded: .*truncated"),
    "a damaged png": (encoded(photo(), "PNG").replace(b"IDAT", b"IDAX", 1), "neither a JPEG nor a PNG"),
    "the signature of a png": (b"\x89PNG\r\n\x1a\n", "cannot be decoded|neither"),
    "the signature of a jpeg": (b"\xff\xd8\xff", "cannot be decoded|neither"),
    "65535x65535 pixels": (_png_of(65535, 65535), "more than 64000000"),
    "9000x8000 pixels": (_png_of(9000, 8000), "9000x8000 pixels, more than 64000000"),
    "many scans": (_jpeg_of_many_scans(), "201 scans"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_photo_is_named(name: str) -> None:
    data, message = BAD[name]
    with pytest.raises(ValueError, match=f"^photo 1: .*(?:{message})"):
        preprocess([encoded(Image.new("RGB", (4, 4)), "PNG"), data], RESNET)


@given(st.data())
def test_damage_raises_nothing_but_a_named_error(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["JPEG", "PNG"]))
    whole = bytearray(encoded(Image.new("RGB", (16, 16), (1, 200, 3)), kind))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        pixels = decode_photo(bytes(whole[: data.draw(st.integers(0, len(whole)))]), max_pixels=10_000)
    except ValueError:
        return
    assert pixels.shape[2] == 3


@given(st.integers(1, 70_000), st.integers(1, 70_000), st.sampled_from(sorted(PREPROCESSINGS)))
def test_sources_lie_in_the_photo_and_weights_add_up_to_one(height: int, width: int, name: str) -> None:
    how = PREPROCESSINGS[name]
    for source, size, taps in zip(
        (height, width), (how.height, how.width), crop_taps(height, width, how), strict=True
    ):
        assert taps.indices.shape[1] == size  # also of a photo of 1x70000 pixels, whose whole would be large
        assert taps.indices.min() >= 0
        assert taps.indices.max() < source
        np.testing.assert_allclose(taps.weights.sum(axis=0), 1, atol=1e-5)


def test_the_limit_is_below_what_makes_pillow_warn() -> None:
    assert Image.MAX_IMAGE_PIXELS is not None
    assert MAX_PIXELS < Image.MAX_IMAGE_PIXELS


def test_neither_pillow_nor_tensorflow_is_imported_with_the_catalogue() -> None:
    program = (
        "import sys; import serval_serving.accel.catalogue, serval_serving.accel.preprocess;"
        "print([name for name in ('PIL', 'tensorflow', 'keras', 'onnx') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[]\n"


def test_a_photo_of_pillows_own_is_read_as_pillow_reads_it() -> None:
    data = encoded(photo(), "JPEG")
    np.testing.assert_array_equal(decode_photo(data), np.asarray(Image.open(io.BytesIO(data))))


def test_a_photo_in_cmyk_takes_little_more_memory_than_its_pixels() -> None:
    side = 2000
    data = encoded(Image.new("CMYK", (side, side), (10, 20, 30, 40)), "JPEG")
    tracemalloc.start()
    try:
        pixels = decode_photo(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert pixels.shape == (side, side, 3)
    assert (pixels == pixels[0, 0]).all()
    assert peak < 3 * pixels.nbytes
