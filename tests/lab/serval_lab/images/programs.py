"""Running debootstrap, pip and buildah: found, limited in time, and leaving nothing behind when killed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from serval_lab.images.errors import ImageError

DEBIAN_PACKAGES = {"debootstrap": "debootstrap", "buildah": "buildah", "unshare": "util-linux"}
LOG_TAIL_LINES = 25

# Mounts of the programs live in a namespace of their own, and their processes end with the first of them,
# which ends with us: after a kill -9 at any moment the kernel has cleaned up.
ISOLATED = (
    "setpriv", "--pdeathsig", "KILL",
    "unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc",
)  # fmt: skip

# buildah's storage is bound to where it looks for it, and its run-time state, which would outlive a killed
# process, is in memory.
WITH_STORAGE = """
set -eu
mkdir -p /var/lib/containers /run/containers
mount --bind "$1" /var/lib/containers
mount -t tmpfs tmpfs /run/containers
shift
exec "$@"
"""


def require_tools() -> None:
    """Check that everything needed is here.

    Raises
    ------
    ImageError
        Not root, or a program is missing; names the command that installs it.
    """
    missing = sorted({package for name, package in DEBIAN_PACKAGES.items() if shutil.which(name) is None})
    if missing:
        install = f"apt-get install --no-install-recommends {' '.join(missing)}"
        raise ImageError(f"building images needs {' and '.join(missing)}; as root: {install}")
    if os.geteuid() != 0:
        raise ImageError("building images needs root, for chroot and mounts; or build them with Docker")


def run_isolated(command: Sequence[str], *, log: Path, limit_s: float) -> None:
    """Run a program in mount and process namespaces of its own; its output goes to ``log``.

    Raises
    ------
    ImageError
        It failed or took longer than ``limit_s``; carries the end of the log.
    """
    run([*ISOLATED, *command], log=log, limit_s=limit_s)


def run_with_storage(storage: Path, command: Sequence[str], *, log: Path, limit_s: float) -> None:
    """Run a command (buildah, or a shell that calls it) with ``storage`` as buildah's storage."""
    storage.mkdir(parents=True, exist_ok=True)
    shell = ["sh", "-c", WITH_STORAGE, "sh", str(storage), *command]
    environment = {"BUILDAH_ISOLATION": "chroot"}
    run([*ISOLATED, *shell], log=log, limit_s=limit_s, environment=environment)


def run(
    command: Sequence[str], *, log: Path, limit_s: float, environment: Mapping[str, str] | None = None
) -> None:
    """Run a program; its output goes to ``log``.

    Raises
    ------
    ImageError
        It failed or took longer than ``limit_s`` seconds; carries the end of the log.
    """
    with log.open("wb") as output:
        try:
            subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                timeout=limit_s,
                check=True,
            )
        except subprocess.TimeoutExpired:
            raise ImageError(f"{log.stem}: not done after {limit_s:.0f} s\n{_tail(log)}") from None
        except subprocess.CalledProcessError as error:
            raise ImageError(f"{log.stem}: ended with {error.returncode}\n{_tail(log)}") from None


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return "\n".join(["end of " + str(log), *(f"  {line}" for line in lines[-LOG_TAIL_LINES:])])
