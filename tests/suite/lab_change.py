"""Whether the lab changed since its own tests passed: then they run again."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from suite.results import LAB_TESTS

KEPT = "lab-tests"
"""Folder of the cache with one file, named by what passed."""
WATCHED = ("tests/lab", LAB_TESTS, "requirements/dev.txt")
"""What the lab and its own tests are made of; dev.txt pins the libraries that they use."""


def content_hash(root: Path) -> str:
    """Return a hash of the lab, its own tests, what they import, and the running kernel."""
    digest = hashlib.sha256(os.uname().release.encode())
    for name in WATCHED:
        path = root / name
        files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
        for file in files:
            if "__pycache__" in file.parts:
                continue
            digest.update(f"\0{file.relative_to(root).as_posix()}\0".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def passed(cache: Path, key: str) -> bool:
    """Whether the lab's own tests passed for this hash on this machine."""
    return (cache / KEPT / key).exists()


def keep(cache: Path, key: str) -> None:
    """Note that they passed for this hash, and forget what was noted before."""
    folder = cache / KEPT
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    (folder / key).touch()
