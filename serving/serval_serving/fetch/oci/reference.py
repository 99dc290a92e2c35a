"""Names of images in registries, and what registries are asked for by them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from serval_contract.models import DIGEST
from serval_contract.schemes import OCI
from serval_serving.fetch.errors import not_found
from serval_serving.fetch.sources import AUTHORITY

MAX_MANIFEST_BYTES: Final = 4 << 20
"""What registries accept at most."""
ACCEPT: Final = ", ".join(
    (
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    )
)
"""Media types of manifests and indexes, for the header ``Accept``."""
DEFAULT_TAG: Final = "latest"
REPOSITORY: Final = re.compile(r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*")
MAX_REPOSITORY: Final = 255
TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class ImageReference:
    """An image in a registry.

    Attributes
    ----------
    registry:
        Host, and port if there is one.
    repository:
        Path of the repository.
    tag:
        Tag; empty where only the digest is given.
    digest:
        ``sha256:<hex>`` of the manifest; empty where only the tag is given.
    """

    registry: str
    repository: str
    tag: str
    digest: str

    @property
    def reference(self) -> str:
        """Return what the registry is asked for: the digest if there is one, else the tag."""
        return self.digest or self.tag

    @property
    def name(self) -> str:
        """Return registry, repository, tag and digest, as programs other than Serval write them."""
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.registry}/{self.repository}{tag}{digest}"

    @property
    def uri(self) -> str:
        """Return the whole, for messages."""
        return f"{OCI.prefix}{self.name}"


def is_repository(path: str) -> bool:
    """Return whether `path` is the path of a repository."""
    return len(path) <= MAX_REPOSITORY and REPOSITORY.fullmatch(path) is not None


def parse_reference(name: str, words: str, default_tag: str = DEFAULT_TAG) -> ImageReference:
    """Read ``REGISTRY/REPOSITORY[:TAG][@DIGEST]``.

    Parameters
    ----------
    name:
        The text.
    words:
        How such a name is written, for the message.
    default_tag:
        The tag of a name without tag and digest.

    Raises
    ------
    FetchError
        ``ModelNotFound`` with `words` if a part is malformed.
    """
    registry, _, rest = name.partition("/")
    path, at, digest = rest.partition("@")
    repository, colon, tag = path.partition(":")
    sound = AUTHORITY.fullmatch(registry) and is_repository(repository)
    if not sound or (colon and not TAG.fullmatch(tag)) or (at and not DIGEST.fullmatch(digest)):
        raise not_found(words)
    return ImageReference(registry, repository, tag or ("" if digest else default_tag), digest)
