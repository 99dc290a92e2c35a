from __future__ import annotations

import random
from pathlib import Path

import pytest

from serval_serving.wire import tfrecord


@pytest.mark.parametrize(
    ("data", "value"),
    [
        # RFC 3720, appendix B.4, and the check value of CRC catalogues.
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"123456789", 0xE3069283),
        (b"", 0),
    ],
)
def test_known_checksums(data: bytes, value: int) -> None:
    assert tfrecord.crc32c(data) == value


@pytest.mark.parametrize("size", [16384, 16385, 17407, 17408, 17409, 40000, 65536])
def test_large_data_have_the_checksum_of_single_bytes(size: int) -> None:
    data = random.Random(size).randbytes(size)
    assert tfrecord.crc32c(data) == tfrecord._byte_by_byte(data)
    assert tfrecord.crc32c(bytes(size)) == tfrecord._byte_by_byte(bytes(size))


def test_a_record_is_framed_as_tensorflow_does_it(tmp_path: Path) -> None:
    # Written with TensorFlow's TFRecordWriter.
    framed = bytes.fromhex("0300000000000000b099490e6162636e57f121")
    assert tfrecord.record(b"abc") == framed
    file = tmp_path / "records"
    file.write_bytes(framed * 2 + tfrecord.record(b""))
    with file.open("rb") as stream:
        assert list(tfrecord.read_records(stream, file)) == [b"abc", b"abc", b""]


def test_a_file_may_grow_while_it_is_read(tmp_path: Path) -> None:
    file = tmp_path / "records"
    file.write_bytes(tfrecord.record(b"abc") * 2)
    found = []
    with file.open("rb", buffering=0) as stream, file.open("ab", buffering=0) as more:
        for data in tfrecord.read_records(stream, file):
            found.append(data)
            more.write(tfrecord.record(b"more"))
    assert found == [b"abc", b"abc"]
