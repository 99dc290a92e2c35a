"""Finds the lab's binaries, and builds those that are missing from their published Go modules."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from serval_lab.errors import LabError, with_log
from serval_lab.locks import lock
from serval_lab.pins import ALL, GO, MODULE_DIR, Binary, pins_hash
from serval_lab.settings import Settings

BUILD_LIMIT = 1800.0
"""Seconds that one binary may take; the longest (kube-apiserver, nothing cached) took 230."""
LOCK_LIMIT = 3600.0
_PARALLEL = "2"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Binaries:
    """Folders that together hold every binary asked for, the preferred one first."""

    dirs: tuple[Path, ...]
    _found: Mapping[str, Path] = field(default_factory=dict, repr=False)

    def path(self, name: str) -> Path:
        """Return the path of one binary.

        Raises
        ------
        LabError
            If it was not among those asked for.
        """
        try:
            return self._found[name]
        except KeyError:
            raise LabError(f"{name} is not among the binaries that this lab was given") from None

    def search_path(self, inherited: str) -> str:
        """Return a PATH on which the lab's binaries come before the machine's."""
        return os.pathsep.join([*(str(folder) for folder in self.dirs), inherited, "/usr/sbin:/sbin"])


def cache_dir(settings: Settings) -> Path:
    """Return the folder that holds the binaries built from the present pins."""
    return settings.cache / "bin" / pins_hash()


def locate(binaries: Sequence[Binary], settings: Settings) -> tuple[dict[str, Path], list[Binary]]:
    """Return the binaries that are there, by name, and those that are missing."""
    folders = [folder for folder in (settings.assets, cache_dir(settings)) if folder]
    found: dict[str, Path] = {}
    missing: list[Binary] = []
    for binary in binaries:
        here = [folder / binary.name for folder in folders if os.access(folder / binary.name, os.X_OK)]
        if here:
            found[binary.name] = here[0]
        else:
            missing.append(binary)
    return found, missing


def ensure(binaries: Sequence[Binary], settings: Settings, say: Say) -> Binaries:
    """Return the binaries, building what neither ``KUBE_ASSETS`` nor the cache has.

    Parameters
    ----------
    binaries
        What is needed.
    settings
        Where to look and where to build.
    say
        Receives one line per binary built.

    Raises
    ------
    LabError
        If a tool for the build is missing (with the command that installs it) or a build fails.
    """
    found, missing = locate(binaries, settings)
    if missing:
        _require_tools(missing)
        with lock(settings.cache / "bin" / "lock", "another build of the binaries", LOCK_LIMIT, say):
            _, missing = locate(binaries, settings)  # another builder may have made them meanwhile
            _build_all(missing, settings, say)
        found, _ = locate(binaries, settings)
    folders = (settings.assets, cache_dir(settings))
    return Binaries(tuple(folder for folder in folders if folder and folder.is_dir()), found)


def _require_tools(missing: Sequence[Binary]) -> None:
    names = ", ".join(binary.name for binary in missing)
    if not shutil.which("go"):
        raise LabError(
            f"missing binaries ({names}) and no Go to build them: install Go 1.26 from https://go.dev/dl, "
            f"or set KUBE_ASSETS to a folder that has them"
        )
    packages = {package for binary in missing for package in binary.debian}
    if packages and not (shutil.which("gcc") and _has_library("libseccomp")):
        raise LabError(f"runc is built from C too; run: apt-get install -y {' '.join(sorted(packages))}")


def _has_library(name: str) -> bool:
    if not shutil.which("pkg-config"):
        return False
    return subprocess.run(["pkg-config", "--exists", name], check=False, timeout=10).returncode == 0


def _build_all(missing: Sequence[Binary], settings: Settings, say: Say) -> None:
    target = cache_dir(settings)
    target.mkdir(parents=True, exist_ok=True)
    if len(missing) > 3:
        say(f"building {len(missing)} of {len(ALL)} binaries into {target}; all of them take about 17 min")
    for position, binary in enumerate(missing, 1):
        began = time.monotonic()
        _build(binary, target)
        say(f"built {binary.name} in {time.monotonic() - began:.0f} s ({position} of {len(missing)})")


def build_command(binary: Binary, output: Path) -> list[str]:
    """Return the Go command that makes `binary`.

    ``go build -o`` cannot take ``path@version`` and ``go install`` cannot name its output, so the
    latter writes into `output`'s folder (GOBIN) under its own name. ``-mod=mod`` lets Go complete the module
    that `_build` makes for a binary that cannot be installed.
    """
    tags = ["-tags", binary.tags] if binary.tags else []
    flags = ["-p", _PARALLEL, *tags, "-ldflags", f"-s -w {binary.ldflags}".strip()]
    if binary.version and not binary.module:
        return ["go", "install", *flags, binary.target]
    complete = ["-mod=mod"] if binary.module else []
    return ["go", "build", *complete, *flags, "-o", str(output), binary.target]


def _build(binary: Binary, target: Path) -> None:
    """Build into a folder of its own and rename: a killed build leaves no half binary."""
    scratch = target / f".building-{binary.name}"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    log = target / f"{binary.name}.log"
    env = os.environ | {
        "CGO_ENABLED": "1" if binary.cgo else "0",
        "GOFLAGS": "-trimpath -buildvcs=false",
        "GOBIN": str(scratch),
        "GOWORK": "off",
    }
    command = build_command(binary, scratch / binary.name)
    if binary.module:
        requirement = f"require {binary.module} {binary.version}"
        (scratch / "go.mod").write_text(f"module scratch\ngo {GO}\n{requirement}\n")
    # go install path@version must run outside a module, or it would read that module's go.mod.
    folder = scratch if binary.version else MODULE_DIR
    # setpriv: Go ends with us, however we end, and does not build on for nobody.
    command = ["setpriv", "--pdeathsig", "KILL", *command] if shutil.which("setpriv") else command
    with log.open("wb") as stream:
        try:
            done = subprocess.run(
                command, cwd=folder, env=env, stdout=stream, stderr=stream, timeout=BUILD_LIMIT, check=False
            )
        except subprocess.TimeoutExpired:
            raise LabError(with_log(f"{binary.name} took over {BUILD_LIMIT:.0f} s to build", log)) from None
    if done.returncode:
        raise LabError(with_log(f"building {binary.name} failed: {' '.join(command)}", log))
    (scratch / binary.name).replace(target / binary.name)
    shutil.rmtree(scratch, ignore_errors=True)
    log.unlink(missing_ok=True)
