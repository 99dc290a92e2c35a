from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from serval_lab.images import ImageError, cache
from serval_lab.images.cache import Cache, contents, key_of, snapshot


def test_a_key_depends_on_every_part_and_on_where_parts_end() -> None:
    keys = {key_of(parts) for parts in (["a", "b"], ["b", "a"], ["ab"], ["ab", ""], [b"a", "b", "c"])}
    assert len(keys) == 5
    assert key_of(["a", b"b"]) == key_of([b"a", "b"])
    assert len(key_of([])) == 12


def test_a_snapshot_leaves_byte_code_behind_and_stays_as_it_was(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "package" / "__pycache__").mkdir(parents=True)
    (tree / "package" / "module.py").write_text("x = 1")
    (tree / "package" / "__pycache__" / "module.pyc").write_bytes(b"1")
    (tree / "Dockerfile").write_text("FROM scratch")
    (tree / "secret.txt").write_text("not asked for")
    copy = tmp_path / "copy"
    snapshot(tree, ["Dockerfile", "package"], copy)
    before = key_of(contents(copy, ["Dockerfile", "package"]))
    (tree / "package" / "module.py").write_text("x = 2")
    assert sorted(path.name for path in copy.rglob("*")) == ["Dockerfile", "module.py", "package"]
    assert key_of(contents(copy, ["Dockerfile", "package"])) == before
    snapshot(tree, ["Dockerfile", "package"], copy)
    assert key_of(contents(copy, ["Dockerfile", "package"])) != before


def test_a_snapshot_of_something_missing_says_what(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"Dockerfile is missing"):
        snapshot(tmp_path, ["Dockerfile"], tmp_path / "copy")


def test_forgetting_keeps_other_kinds(tmp_path: Path) -> None:
    store = Cache(tmp_path)
    names = ("base-1.tar", "base-2.tar", "wheels-1", "archive-operator-1.tar", "archive-server-1.tar")
    for name in names:
        (tmp_path / name).mkdir() if name == "wheels-1" else (tmp_path / name).touch()
    (tmp_path / "wheels-2").mkdir()
    store.forget_others(tmp_path / "base-2.tar")
    store.forget_others(tmp_path / "wheels-2")
    store.forget_others(tmp_path / "archive-server-2.tar")
    assert {path.name for path in tmp_path.iterdir()} == {"base-2.tar", "wheels-2", "archive-operator-1.tar"}


def test_a_second_build_waits_says_so_and_gives_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "LOCK_LIMIT_S", 0.0)
    monkeypatch.setattr(cache, "LOCK_POLL_S", 0.0)
    store = Cache(tmp_path)
    said: list[str] = []
    with store.locked(said.append):
        assert said == []
        with pytest.raises(ImageError, match="another build"), store.locked(said.append):
            pass
    with store.locked(said.append), (tmp_path / "lock").open() as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_the_cache_is_where_the_lab_keeps_its_things(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVAL_CACHE", str(tmp_path))
    assert Cache.default().root == tmp_path / "images"
