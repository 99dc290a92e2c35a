"""The wheels that the requirements name, fetched once, so that the build itself needs no network."""

from __future__ import annotations

import platform
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from serval_lab.images.cache import Cache, Progress, key_of
from serval_lab.images.programs import run

PYTHON_VERSION = "3.11"  # of the base image, whatever Python this runs on
NEWEST_GLIBC_MINOR = 36  # of the base image: wheels built for a newer C library do not load there
OLDEST_GLIBC_MINOR = 17
PIP = "pip==26.3"  # installs the others; never part of an image
DOWNLOAD_LIMIT_S = 1800.0


def wheel_folder(cache: Cache, requirements: Sequence[Path], progress: Progress) -> Path:
    """Folder with every wheel of the requirements, and pip's own, from the cache or fetched now.

    Parameters
    ----------
    requirements:
        Requirement files with exact versions.

    Raises
    ------
    ImageError
        pip could not fetch one of them.
    """
    machine = platform.machine()
    key = key_of([PYTHON_VERSION, machine, PIP, *(path.read_bytes() for path in requirements)])
    folder = cache.keyed("wheels", key)
    if folder.exists():
        return folder
    started = time.monotonic()
    progress("images: fetching wheels")
    partial = cache.root / "wheels.partial"
    shutil.rmtree(partial, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(partial)]
    command += ["--only-binary", ":all:", "--python-version", PYTHON_VERSION, "--implementation", "cp"]
    for name in _platforms(machine):
        command += ["--platform", name]
    for path in requirements:
        command += ["--requirement", str(path)]
    run([*command, PIP], log=cache.logs / "wheels.log", limit_s=DOWNLOAD_LIMIT_S)
    partial.rename(folder)
    cache.forget_others(folder)
    files = list(folder.iterdir())
    size = sum(path.stat().st_size for path in files) / 1e6
    progress(f"images: {len(files)} wheels, {size:.0f} MB ({time.monotonic() - started:.1f} s)")
    return folder


def _platforms(machine: str) -> list[str]:
    """Names of the platforms whose wheels load in the base image; pip does not derive them itself."""
    minors = range(NEWEST_GLIBC_MINOR, OLDEST_GLIBC_MINOR - 1, -1)
    names = [f"manylinux_2_{minor}_{machine}" for minor in minors]
    return [*names, f"manylinux2014_{machine}", f"manylinux2010_{machine}", f"manylinux1_{machine}"]
