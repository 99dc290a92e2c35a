"""``oci://REGISTRY/REPOSITORY:TAG``: an image that holds a model, mounted by the kubelet or in a registry."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Final, Self

from serval_contract import schemes
from serval_contract.reasons import MODEL_NOT_FOUND
from serval_serving.fetch.acquire import Brought
from serval_serving.fetch.credentials import ANY, Forms
from serval_serving.fetch.errors import FetchError, invalid
from serval_serving.fetch.model.tree import BoundedTree, Linker
from serval_serving.fetch.model.versions import MAX_WRAPPERS, Listing, Located, locate
from serval_serving.fetch.oci.image import from_registry
from serval_serving.fetch.oci.login import PULL_SECRET
from serval_serving.fetch.oci.reference import ImageReference, parse_reference
from serval_serving.fetch.settings import FetchContext
from serval_serving.fetch.sources import bare
from serval_serving.fetch.stores.base import Store

_PURE: Final = "it may be a pure OCI artifact, which nodes mount without its files; push an ordinary image"


@dataclass(frozen=True, slots=True)
class ImageStore(Store):
    """An image.

    Parameters
    ----------
    image:
        Which one.
    """

    scheme: ClassVar[schemes.Scheme] = schemes.OCI
    secret_keys: ClassVar[Forms] = MappingProxyType({PULL_SECRET: ANY})
    image: ImageReference

    @classmethod
    def parse(cls, uri: str) -> Self:
        """Read an address."""
        words = f"an image is written {cls.scheme.form}, with @sha256:... in addition or in the tag's place"
        return cls(parse_reference(bare(uri, words), words))

    def bring(self, context: FetchContext, staging: Path) -> Brought:
        """Link to the version in the mounted image; without a mount, download the layers."""
        if context.settings.image_mount is None:
            return from_registry(context, self.image, staging)
        return self._linked(context, context.settings.image_mount, staging)

    def _linked(self, context: FetchContext, mount: Path, staging: Path) -> Brought:
        """Link to a version below `mount`; the server sees the image at the same place."""
        tree = BoundedTree(mount)
        try:
            located = locate(tree, mount, context.wanted, wrappers=MAX_WRAPPERS)
        except FileNotFoundError as error:
            text = f"the image {self.image.uri} is not mounted at {mount}"
            raise FetchError(MODEL_NOT_FOUND, text, permanent=False) from error
        except FetchError as error:
            if tree.listing(mount) == Listing((), ()):
                raise invalid(f"the image {self.image.uri} mounts empty at {mount}: {_PURE}") from error
            raise
        linked = staging / "linked"
        Linker(tree, context.budget, context.deadline, context.progress).copy(located.folder, linked)
        return Brought(Located(linked, located.version))


STORE: Final = ImageStore
