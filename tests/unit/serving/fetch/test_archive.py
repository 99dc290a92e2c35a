from __future__ import annotations

import io
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from backports import zstd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serval_serving.fetch.errors import FetchError
from serval_serving.fetch.model.versions import IMAGE_FOLDER
from serval_serving.fetch.oci.layers import LayerUnpacker
from serval_serving.fetch.progress import Deadline, Progress
from serval_serving.fetch.safety.archive import Unpacker
from serval_serving.fetch.safety.limits import Budget
from serval_serving.fetch.safety.safe_paths import MAX_DEPTH
from unit.serving.fetch.bombs import ACCEPTED, BOMBS, links
from unit.serving.fetch.builders import MEGABYTE, member, model_files, tar, tar_of, zipped
from unit.serving.fetch.clocks import Clock

Unpack = Callable[..., Path]


@pytest.fixture
def unpack(tmp_path: Path) -> Unpack:
    def run(data: bytes, max_bytes: int = 4 * MEGABYTE, max_entries: int = 50) -> Path:
        clock = Clock()
        (tmp_path / "archive").write_bytes(data)
        unpacker = Unpacker(Budget(max_bytes, max_entries), Deadline(clock, 60), Progress(clock))
        unpacker.unpack(tmp_path / "archive", tmp_path / "out")
        return tmp_path / "out"

    return run


def zip_entry(name: str, mode: int = 0, data: bytes = b"x") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        info = zipfile.ZipInfo("placeholder")
        info.filename = name
        info.external_attr = mode << 16
        archive.writestr(info, data)
    return out.getvalue()


def encrypted_zip() -> bytes:
    data = bytearray(zip_entry("saved_model.pb"))
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


PAX_BOMB = tarfile.TarInfo("x")
PAX_BOMB.pax_headers = {"comment": "a" * (2 * MEGABYTE)}

ZSTD = zstd.compress(tar(model_files(bytes(range(256)) * 99), mode="w:"))
LONG_WINDOW = b"\x28\xb5\x2f\xfd\x00\xa8" + ZSTD[6:]
"""No single segment, and a window of 2^31 bytes: what `zstd --long=31` writes."""

HOSTILE: dict[str, tuple[bytes, str]] = {
    "tar absolute": (tar({"/etc/passwd": b""}), "absolute"),
    "tar dots": (tar({"a/../../x": b""}), r"\.\."),
    "tar dots at end": (tar_of(member("a/..", tarfile.DIRTYPE)), r"\.\."),
    "tar backslash": (tar({"..\\x": b""}), "backslash"),
    "tar newline": (tar({"a\nb": b""}), "cannot be shown"),
    "tar symlink": (tar_of(member("a", tarfile.SYMTYPE, "/etc")), "symbolic link"),
    "tar symlink inside": (tar_of(member("a", tarfile.SYMTYPE, "b")), "symbolic link"),
    "tar hard link": (tar_of(member("a", tarfile.LNKTYPE, "b")), "hard link"),
    "tar device": (tar_of(member("a", tarfile.CHRTYPE)), "device"),
    "tar block device": (tar_of(member("a", tarfile.BLKTYPE)), "device"),
    "tar pipe": (tar_of(member("a", tarfile.FIFOTYPE)), "pipe"),
    "tar twice": (tar_of(member("a"), member("a")), "File exists"),
    "tar file as folder": (tar_of(member("a"), member("a/b")), "File exists"),
    "tar too many": (tar({f"f{i}": b"" for i in range(51)}), "50 entries"),
    "tar too many folders": (tar({"/".join("abc" * 8) + f"/{i}/f": b"" for i in range(26)}), "50 entries"),
    "tar too deep": (tar({"d/" * MAX_DEPTH + "f": b""}), "deep"),
    "tar long header": (tar_of(PAX_BOMB), "header"),
    "tar name too long": (tar({"n" * 300: b""}), "name too long"),
    "tar cut off": (tar({"a": b"x" * 5000}, mode="w:")[:3000], "damaged"),
    "tar.gz cut off": (tar(model_files(bytes(range(256)) * 99))[:-50], "damaged"),
    "tar.zst cut off": (ZSTD[: len(ZSTD) // 2], "damaged"),
    "tar.zst that wants 2 GiB of memory": (LONG_WINDOW, "damaged"),
    "tar damaged inside": (
        tar_of(member("a"), member("b")).replace(b"b\0\0\0", b"c\0\0\0", 1),
        "damaged after 1 entries",
    ),
    "zip absolute": (zip_entry("/etc/passwd"), "absolute"),
    "zip dots": (zip_entry("a/../../x"), r"\.\."),
    "zip backslash": (zip_entry("..\\x"), "backslash"),
    "zip NUL": (zip_entry("saved_model.pb\0.txt"), "cannot be shown"),
    "zip symlink": (zip_entry("a", mode=0o120777, data=b"/etc/passwd"), "link"),
    "zip device": (zip_entry("a", mode=0o020666), "device"),
    "zip encrypted": (encrypted_zip(), "encrypted"),
    "zip method": (zipped({"a": b"x"}, zipfile.ZIP_LZMA), "packed"),
    "zip too many": (zipped({f"f{i}": b"" for i in range(51)}), "50 entries"),
    "zip empty name": (zip_entry(""), "damaged"),
    "zip damaged": (zipped({"a": b"x" * 100}, zipfile.ZIP_STORED).replace(b"xxx", b"xyx"), "damaged"),
    "web page": (b"<!DOCTYPE html><html>", "<!DOCTYPE"),
    "nothing": (b"", "no tar"),
}


@pytest.mark.parametrize(("data", "words"), HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_archive_is_rejected(unpack: Unpack, tmp_path: Path, data: bytes, words: str) -> None:
    with pytest.raises(FetchError, match=words) as caught:
        unpack(data)
    assert (caught.value.reason, caught.value.permanent) == ("ModelArtifactRejected", True)
    assert {p.name for p in tmp_path.iterdir()} <= {"archive", "out"}
    assert not [p for p in tmp_path.rglob("*") if p.is_symlink()]


@pytest.mark.parametrize("pack", [tar, zipped, lambda files: zstd.compress(tar(files, mode="w:"))])
def test_bomb_is_rejected_by_its_ratio(unpack: Unpack, pack: Callable[..., bytes]) -> None:
    bomb = pack({"zeros": bytes(5 * MEGABYTE)})
    assert len(bomb) < 20_000
    with pytest.raises(FetchError, match="200 times") as caught:
        unpack(bomb)
    assert caught.value.reason == "ModelArtifactRejected"


def test_large_model_is_too_large_not_hostile(unpack: Unpack) -> None:
    with pytest.raises(FetchError) as caught:
        unpack(tar({"weights": bytes(2 * MEGABYTE)}, mode="w:"), max_bytes=MEGABYTE)
    assert (caught.value.reason, caught.value.permanent) == ("ModelTooLarge", True)


def test_small_model_of_zeros_is_welcome(unpack: Unpack) -> None:
    assert (unpack(tar({"zeros": bytes(MEGABYTE)})) / "zeros").stat().st_size == MEGABYTE


def test_zip_that_lies_about_sizes_is_rejected(unpack: Unpack) -> None:
    data = bytearray(zipped({"a": b"y" * 1000}, zipfile.ZIP_STORED))
    directory = data.index(b"PK\x01\x02")
    data[directory + 24 : directory + 28] = (10).to_bytes(4, "little")
    with pytest.raises(FetchError, match="damaged"):
        unpack(bytes(data))


def test_huge_zip_directory_is_not_read(unpack: Unpack) -> None:
    many = zipped({f"{i:0100}": b"" for i in range(12_000)})
    with pytest.raises(FetchError, match="header"):
        unpack(many)


def peak(unpacker: Unpacker, archive: Path) -> int:
    """Unpack, and return the most bytes that were allocated meanwhile."""
    tracemalloc.start()
    try:
        unpacker.unpack(archive, archive.with_name("out"))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("make", BOMBS.values(), ids=BOMBS.keys())
def test_headers_do_not_fill_the_memory(tmp_path: Path, make: Callable[[], bytes]) -> None:
    (tmp_path / "archive").write_bytes(make())
    clock = Clock()
    unpacker = Unpacker(Budget(1 << 33, 10_000), Deadline(clock, 60), Progress(clock))
    with pytest.raises(FetchError, match="header") as caught:
        assert peak(unpacker, tmp_path / "archive") < 64 * MEGABYTE
    assert (caught.value.reason, caught.value.permanent) == ("ModelArtifactRejected", True)


@pytest.mark.parametrize("make", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_headers_that_are_accepted_do_not_fill_the_memory(tmp_path: Path, make: Callable[[], bytes]) -> None:
    (tmp_path / "archive").write_bytes(make())
    clock = Clock()
    unpacker = Unpacker(Budget(1 << 33, 10_000), Deadline(clock, 60), Progress(clock))
    assert peak(unpacker, tmp_path / "archive") < 64 * MEGABYTE


def test_entries_that_are_stepped_over_are_not_kept(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(links(10_000))
    clock = Clock()
    layers = LayerUnpacker(Budget(MEGABYTE, 10), Deadline(clock, 60), Progress(clock), IMAGE_FOLDER)
    assert peak(layers, tmp_path / "archive") < 2 * MEGABYTE


SPARSE = tar({"var/log/lastlog": bytes(70 * MEGABYTE), "models/1/a": b"a"})


def stepping_over(tmp_path: Path, clock: Clock) -> LayerUnpacker:
    (tmp_path / "archive").write_bytes(SPARSE)
    return LayerUnpacker(Budget(MEGABYTE, 10), Deadline(clock, 60), Progress(clock), IMAGE_FOLDER)


def test_entries_that_are_stepped_over_may_be_sparse(tmp_path: Path) -> None:
    stepping_over(tmp_path, Clock()).unpack(tmp_path / "archive", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()] == ["a"]


def test_entries_that_are_stepped_over_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serval_serving.fetch.safety.archive.SKIPPED_FLOOR_BYTES", MEGABYTE)
    monkeypatch.setattr("serval_serving.fetch.safety.archive.SKIPPED_RATIO", 500)
    with pytest.raises(FetchError, match="not kept have more than"):
        stepping_over(tmp_path, Clock()).unpack(tmp_path / "archive", tmp_path / "out")


def test_no_entry_leads_back(tmp_path: Path) -> None:
    info = tarfile.TarInfo("usr/x")
    info.size = -tarfile.BLOCKSIZE
    layers = stepping_over(tmp_path, Clock())
    (tmp_path / "archive").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(2 * tarfile.BLOCKSIZE))
    with pytest.raises(FetchError, match="damaged"):
        layers.unpack(tmp_path / "archive", tmp_path / "out")
    with pytest.raises(FetchError, match="less than no bytes"):
        layers._skip(-tarfile.BLOCKSIZE)  # as where the library lets it pass


def test_stepping_over_ends_at_the_deadline(tmp_path: Path) -> None:
    clock = Clock()
    layers = stepping_over(tmp_path, clock)
    clock.now += 61
    with pytest.raises(FetchError, match="60"):
        layers.unpack(tmp_path / "archive", tmp_path / "out")
    assert not (tmp_path / "out" / "models").exists(), "before the entry behind it"


def test_headers_that_archives_have_are_fine(unpack: Unpack) -> None:
    """As `git archive` writes them, and long names in both forms."""
    out = io.BytesIO()
    with tarfile.open(
        fileobj=out, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "c" * 40}
    ) as made:
        for number in range(20):
            info = member("/".join(("d" * 100, "e" * 100, f"{number}")), size=1)
            info.pax_headers = {"SCHILY.xattr.user.note": "n" * 60_000}
            made.addfile(info, io.BytesIO(b"x"))
    assert len([path for path in unpack(out.getvalue()).rglob("*") if path.is_file()]) == 20


def test_folders_and_odd_spellings_are_fine(unpack: Unpack) -> None:
    folder = member("./model/", tarfile.DIRTYPE)
    out = unpack(tar_of(folder, member("model//a"), member("./model/./b", size=1), content=b"x"))
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*")) == ["model", "model/a", "model/b"]


@pytest.mark.parametrize("seed", [tar(model_files()), tar(model_files(), "w:"), zipped(model_files()), ZSTD])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_is_never_worse_than_a_rejection(tmp_path: Path, seed: bytes, data: st.DataObject) -> None:
    clock = Clock()
    changed = bytearray(seed)
    for _ in range(data.draw(st.integers(1, 6))):
        changed[data.draw(st.integers(0, len(seed) - 1))] = data.draw(st.integers(0, 255))
    folder = tmp_path / str(len(list(tmp_path.iterdir())))
    folder.mkdir()
    (folder / "archive").write_bytes(changed)
    unpacker = Unpacker(Budget(MEGABYTE, 20), Deadline(clock, 60), Progress(clock))
    with suppress(FetchError):
        unpacker.unpack(folder / "archive", folder / "out")
    assert {p.name for p in folder.iterdir()} <= {"archive", "out"}
