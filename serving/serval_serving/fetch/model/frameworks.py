"""What makes a folder a model, by framework, in the words of a fetch. The formats are those of the server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from serval_serving.fetch.errors import FetchError, invalid
from serval_serving.models.formats import ARTIFACT_FORMAT, FORMATS, Format, foreign, format_of
from serval_serving.models.savedmodel import DEFAULT_SIGNATURE, ModelInvalid, Signature


@dataclass(frozen=True, slots=True)
class Framework:
    """A kind of model that can be asked for.

    Attributes
    ----------
    format:
        The format of its models.
    """

    format: Format

    def marker(self, files: Iterable[str]) -> str | None:
        """Return the file that makes a folder with these `files` a model, or None.

        Raises
        ------
        FetchError
            ``ModelInvalid`` if it is not clear which one it is, or if the server would load another one.
        """
        names = tuple(files)
        try:
            found = self.format.choose(names)
        except ModelInvalid as error:
            raise invalid(str(error)) from error
        served = format_of(names)
        if found is not None and served is not None and served is not self.format:
            raise invalid(f"beside {found} there is {served.kind}, which the server would load; remove one")
        return found

    def read(self, folder: Path, tags: Sequence[str]) -> Signature | None:
        """Read the model in `folder` and return its default signature; None if it has none of that name.

        Parameters
        ----------
        folder:
            The folder.
        tags:
            All tags of the graph that is served, if it is a SavedModel.

        Raises
        ------
        ModelInvalid
            If it cannot be served.
        """
        return self.format.signatures(folder, tags).get(DEFAULT_SIGNATURE)


FRAMEWORKS: Final[Mapping[str, Framework]] = MappingProxyType(
    {one.framework: Framework(one) for one in FORMATS}
)


def wrong_framework(asked: Framework, files: Iterable[str], what: str) -> FetchError | None:
    """Return a ``ModelInvalid`` with the cure if `files` are a model of another kind than `asked`.

    Parameters
    ----------
    asked:
        The framework that the model should be of.
    files:
        Names of the files in its folder.
    what:
        What holds them, for the message.
    """
    names = tuple(files)
    for other in FORMATS:
        if other is not asked.format and other.is_in(names):
            return invalid(f"{what} holds {other.kind}, and {asked.format.kind} is asked for; {_cure(other)}")
    words = foreign(names)
    return invalid(f"{what} holds no {asked.format.wanted}; {words}") if words else None


def _cure(found: Format) -> str:
    """Say what to do with a model of another format than was asked for."""
    if found is ARTIFACT_FORMAT:
        return "create an AcceleratedModel with this artifact"
    return f"set spec.model.framework to {found.framework}"
