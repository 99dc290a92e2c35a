"""The model of the demo: trained once, kept in the cache, packed as the archive that the cluster fetches."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from examples.demo.errors import DemoError

TRAINER = Path(__file__).resolve().parents[1] / "digits" / "train.py"
TRAINING_LIMIT_S = 600.0
MAX_ARCHIVE_BYTES = 900_000
"""A ConfigMap holds 1 MiB, base64 included."""
KEY_LENGTH = 12


@dataclass(frozen=True, slots=True)
class HeldOutImage:
    """One image that the model has not seen.

    Attributes
    ----------
    name:
        Of the file.
    data:
        The file: a PNG.
    label:
        The digit that it shows.
    """

    name: str
    data: bytes
    label: int


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A trained model, packed.

    Attributes
    ----------
    archive:
        Gzipped tar of a base path with one numbered version.
    images:
        Held-out images.
    folder:
        Where the images lie as files.
    """

    archive: bytes
    images: tuple[HeldOutImage, ...]
    folder: Path

    @property
    def sha256(self) -> str:
        """Digest of the archive, in hexadecimal, as ``spec.model.sha256`` pins it."""
        return hashlib.sha256(self.archive).hexdigest()


def trained_model(cache: Path, say: Callable[[str], None], trainer: Path = TRAINER) -> TrainedModel:
    """Return the model that the training program makes, from the cache or trained now.

    Parameters
    ----------
    cache:
        Folder to keep it in, by the hash of the program.
    say:
        Takes what the program prints.

    Raises
    ------
    DemoError
        The program failed, or the packed model does not fit into a ConfigMap.
    """
    key = hashlib.sha256(trainer.read_bytes()).hexdigest()[:KEY_LENGTH]
    folder = cache / f"digits-{key}"
    if not folder.is_dir():
        partial = cache / f"digits-{key}.{os.getpid()}"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _train(trainer, partial, say)
        if not folder.is_dir():
            partial.rename(folder)
    archive = pack(folder / "model")
    if len(archive) > MAX_ARCHIVE_BYTES:
        raise DemoError(f"the packed model has {len(archive)} bytes; a ConfigMap takes {MAX_ARCHIVE_BYTES}")
    return TrainedModel(archive, read_images(folder / "images"), folder / "images")


def _train(trainer: Path, folder: Path, say: Callable[[str], None]) -> None:
    command = [sys.executable, str(trainer), "--out", str(folder / "model")]
    command += ["--test-images", str(folder / "images")]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=TRAINING_LIMIT_S,
            check=True,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        raise DemoError(f"training was not done within {TRAINING_LIMIT_S:.0f} s") from None
    except subprocess.CalledProcessError as error:
        raise DemoError(f"training failed:\n{error.stdout}{error.stderr}"[-3000:]) from None
    for line in done.stdout.splitlines():
        if not line.startswith("wrote"):  # to a folder that has another name in a moment
            say(line)


def pack(base_path: Path) -> bytes:
    """Pack the numbered versions below a folder; the same files give the same bytes."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        for version in sorted(path for path in base_path.iterdir() if path.name.isdecimal()):
            for path in sorted(version.rglob("*")):
                if path.is_file():
                    entry = tarfile.TarInfo(path.relative_to(base_path).as_posix())
                    entry.size = path.stat().st_size
                    entry.mode = 0o644
                    with path.open("rb") as file:
                        tar.addfile(entry, file)
    return gzip.compress(plain.getvalue(), mtime=0)


def read_images(folder: Path) -> tuple[HeldOutImage, ...]:
    """Read the images and their labels, as the training program wrote them."""
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return tuple(
        HeldOutImage(row["file"], (folder / row["file"]).read_bytes(), int(row["label"])) for row in rows
    )
