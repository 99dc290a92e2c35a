"""What makes a folder a model, by framework, in the words of a fetch. The formats are those of the server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from serval_contract.models import WEIGHTS
from serval_serving.fetch.errors import FetchError, invalid
from serval_serving.fetch.model.weights import (
    WEIGHTS_FORMAT,
    foreign_names,
    is_one_file,
    may_be_weights,
    no_weights,
    packed_foreign,
)
from serval_serving.models.formats import (
    ARTIFACT_FORMAT,
    FORMATS,
    Format,
    foreign,
    foreign_file,
    format_of,
)
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

    def refused(self, head: bytes) -> str:
        """Say what a single file is by its first bytes if it is no such model, after "is"; else empty."""
        return foreign_file(head)

    def is_one_file(self, names: Sequence[str]) -> bool:  # noqa: ARG002  no model of the server is a zip
        """Whether a zip with these `names` is the model itself, not an archive of its files.

        Raises
        ------
        FetchError
            ``ModelInvalid`` if it is something else that is known.
        """
        return False

    def may_be(self, files: Iterable[str]) -> bool:  # noqa: ARG002  the server goes by names
        """Whether a folder with these `files`, without a marker, may hold such a model all the same."""
        return False

    def wrong(self, files: Iterable[str], what: str) -> FetchError | None:
        """Return a ``ModelInvalid`` with the cure if `files` are a model of another kind.

        Parameters
        ----------
        files:
            Names of the files in its folder.
        what:
            What holds them, for the message.
        """
        names = tuple(files)
        asked = self.format
        for other in FORMATS:
            if other is not asked and other.is_in(names):
                return invalid(f"{what} holds {other.kind}, and {asked.kind} is asked for; {_cure(other)}")
        words = foreign(names)
        return invalid(f"{what} holds no {asked.wanted}; {words}") if words else None


class WeightsFramework(Framework):
    """Weights of a featurizer: any files but those that cannot be such. No server loads them."""

    def marker(self, files: Iterable[str]) -> str | None:
        """Return the first file that is weights by its name; see `Framework.marker`."""
        return self.format.choose(files)

    def refused(self, head: bytes) -> str:
        """Say what a single file is that cannot be weights; see `Framework.refused`."""
        return no_weights("", head)

    def is_one_file(self, names: Sequence[str]) -> bool:
        """Whether a zip is a file of Keras; see `Framework.is_one_file`."""
        words = packed_foreign(names)
        if words:
            raise invalid(f"the file is {words}")
        return is_one_file(names)

    def may_be(self, files: Iterable[str]) -> bool:
        """Whether one of the files may be weights; see `Framework.may_be`."""
        return may_be_weights(files)

    def wrong(self, files: Iterable[str], what: str) -> FetchError | None:
        """Name the first file that cannot be weights; see `Framework.wrong`."""
        words = foreign_names(files)
        return invalid(f"{what} holds no {self.format.kind}; {words}") if words else None


FRAMEWORKS: Final[Mapping[str, Framework]] = MappingProxyType(
    {
        **{one.framework: Framework(one) for one in FORMATS},
        WEIGHTS: WeightsFramework(WEIGHTS_FORMAT),
    }
)
"""Values of the fetcher's flag ``--framework``."""


def _cure(found: Format) -> str:
    """Say what to do with a model of another format than was asked for."""
    if found is ARTIFACT_FORMAT:
        return "create an AcceleratedModel with this artifact"
    return f"set spec.model.framework to {found.framework}"
