"""What a store brings: a version of a model in the staging folder; here also made of a single file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from serval_serving.fetch.errors import invalid
from serval_serving.fetch.model.tree import BoundedTree
from serval_serving.fetch.model.versions import MAX_WRAPPERS, Located, locate
from serval_serving.fetch.model.weights import HEAD_BYTES
from serval_serving.fetch.safety.archive import Unpacker, is_archive, zip_names
from serval_serving.fetch.settings import FetchContext

SINGLE: Final = "single"
"""What a file that has not been looked at is called in the staging folder."""


@dataclass(frozen=True, slots=True)
class Brought:
    """Files that arrived.

    Attributes
    ----------
    located:
        The version to serve, in the staging folder.
    compared:
        Whether the expected digest was that of an archive and has been compared.
    """

    located: Located[Path]
    compared: bool = False


def from_file(context: FetchContext, file: Path, sha256: str, staging: Path) -> Brought:
    """Make a model of a single file in `staging`: unpack an archive, or take it as it is where that can be.

    Parameters
    ----------
    sha256:
        Digest of its bytes, hexadecimal; compared here with the expected one.

    Raises
    ------
    FetchError
        If it is not the expected one, holds what is refused, or no such model.
    """
    framework = context.wanted.framework
    with file.open("rb") as opened:
        words = framework.refused(opened.read(HEAD_BYTES))
    if words:
        raise invalid(f"the file is {words}")
    bare_file = framework.format.bare_file
    if bare_file is not None and (not is_archive(file) or stays_packed(context, file)):
        context.compare(sha256, "the file")
        folder = staging / "bare"
        folder.mkdir()
        file.rename(folder / bare_file)
        return Brought(Located(folder, context.wanted.number(folder)), compared=True)
    context.compare(sha256, "the archive")
    folder = staging / "unpacked"
    Unpacker(context.budget, context.deadline, context.progress).unpack(file, folder)
    file.unlink()
    return Brought(locate(BoundedTree(folder), folder, context.wanted, wrappers=MAX_WRAPPERS), compared=True)


def stays_packed(context: FetchContext, file: Path) -> bool:
    """Whether an archive is the model itself, such as a `.keras` file, which is a zip.

    Raises
    ------
    FetchError
        If it is damaged, or something that is known to be no such model.
    """
    names = zip_names(file, context.budget.max_entries, context.deadline)
    return context.wanted.framework.is_one_file(names)
