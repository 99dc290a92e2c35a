"""The base image: a small Debian with python3 and CA certificates, made by debootstrap."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from serval_lab.images.cache import Cache, Progress, key_of
from serval_lab.images.programs import run, run_isolated

SUITE = "bookworm"
PACKAGES = "python3,ca-certificates"
MIRROR_VARIABLE = "SERVAL_DEBIAN_MIRROR"
DEBOOTSTRAP_LIMIT_S = 900.0
TAR_LIMIT_S = 120.0

# Caches, documentation and translations; the copyright files stay. debootstrap copies the host's name
# and resolver into the tree, and makes device nodes: neither belongs into an image.
UNWANTED = (
    "dev/*", "etc/hostname", "etc/resolv.conf", "usr/share/info/*", "usr/share/lintian", "usr/share/locale/*",
    "usr/share/man/*", "var/cache/apt/*", "var/cache/debconf/*-old", "var/cache/ldconfig/aux-cache",
    "var/lib/apt/lists/*", "var/lib/dpkg/*-old", "var/log/*.log", "var/log/apt",
)  # fmt: skip
COPYRIGHT = "copyright"


def base_key() -> str:
    """Key of what the base is made of."""
    return key_of([SUITE, PACKAGES, *UNWANTED])


def base_archive(cache: Cache, progress: Progress) -> Path:
    """Tar archive of the base's root file system, from the cache or made now.

    Raises
    ------
    ImageError
        debootstrap failed.
    """
    archive = cache.keyed("base", base_key()).with_suffix(".tar")
    if archive.exists():
        return archive
    started = time.monotonic()
    mirror = os.environ.get(MIRROR_VARIABLE)
    progress("images: making a Debian base by debootstrap" + (f" from {mirror}" if mirror else ""))
    tree = cache.root / "base.tree"
    shutil.rmtree(tree, ignore_errors=True)
    command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(tree)]
    if mirror:
        command.append(mirror)
    run_isolated(command, log=cache.logs / "debootstrap.log", limit_s=DEBOOTSTRAP_LIMIT_S)
    _remove_unwanted(tree)
    partial = archive.with_suffix(".partial")
    pack = ["tar", "--create", "--sort=name", "--numeric-owner", "--file", str(partial), "--directory"]
    run([*pack, str(tree), "."], log=cache.logs / "base-tar.log", limit_s=TAR_LIMIT_S)
    shutil.rmtree(tree)
    partial.rename(archive)
    cache.forget_others(archive)
    size = archive.stat().st_size / 1e6
    progress(f"images: base made, {size:.0f} MB ({time.monotonic() - started:.1f} s)")
    return archive


def _remove_unwanted(tree: Path) -> None:
    for pattern in UNWANTED:
        for path in tree.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    for path in (tree / "usr/share/doc").rglob("*"):
        if path.name != COPYRIGHT and not path.is_dir():
            path.unlink()
