"""``pvc://CLAIM/PATH``: a folder or file in a PersistentVolumeClaim, which the kubelet mounts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, Self

from serval_contract import schemes
from serval_contract.reasons import MODEL_NOT_FOUND
from serval_serving.fetch.acquire import SINGLE, Brought, from_file
from serval_serving.fetch.errors import FetchError, not_found
from serval_serving.fetch.model.tree import BoundedTree, Copier
from serval_serving.fetch.model.versions import Located, locate
from serval_serving.fetch.safety.limits import Budget
from serval_serving.fetch.settings import FetchContext
from serval_serving.fetch.sources import bare, path_parts
from serval_serving.fetch.stores.base import Store
from serval_serving.models.folder_digest import file_sha256


@dataclass(frozen=True, slots=True)
class ClaimStore(Store):
    """A place in a mounted claim.

    Parameters
    ----------
    claim:
        Name of the PersistentVolumeClaim, for messages.
    parts:
        The path inside it; empty for its root.
    """

    scheme: ClassVar[schemes.Scheme] = schemes.PVC
    claim: str
    parts: tuple[str, ...]

    @classmethod
    def parse(cls, uri: str) -> Self:
        """Read an address."""
        words = f"a volume is written {cls.scheme.form}"
        claim, _, path = bare(uri, words).partition("/")
        if not claim:
            raise not_found(words)
        return cls(claim, path_parts(path, cls.scheme))

    @property
    def path(self) -> str:
        """The path inside the volume, for messages."""
        return "/" + "/".join(self.parts)

    def bring(self, context: FetchContext, staging: Path) -> Brought:
        """Copy a version, or the content of an archive, out of the claim."""
        mount = context.settings.pvc_mount
        path, tree = mount.joinpath(*self.parts), BoundedTree(mount)
        if tree.has_file(path):
            single = staging / SINGLE
            whole = Budget(context.settings.max_bytes, 1)
            Copier(tree, whole, context.deadline, context.progress).copy(path, single)
            return from_file(context, single, file_sha256(single), staging)
        try:
            located = locate(tree, path, context.wanted)
        except FileNotFoundError as error:
            text = f"there is no {self.path} in the volume claim {self.claim}"
            raise FetchError(MODEL_NOT_FOUND, text, permanent=False) from error
        except FetchError as error:
            if error.reason != MODEL_NOT_FOUND:
                raise
            # Not permanent: it may be copied there at any moment, and looking again costs nothing.
            raise FetchError(MODEL_NOT_FOUND, error.message, permanent=False) from error
        copied = staging / "copied"
        Copier(tree, context.budget, context.deadline, context.progress).copy(located.folder, copied)
        return Brought(Located(copied, located.version))


STORE: Final = ClaimStore
