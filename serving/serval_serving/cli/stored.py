"""Images in a registry, as the commands of ``serval images`` show them."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from serval_contract.artifact_reasons import ARTIFACT_NOT_FOUND, REGISTRY_UNREACHABLE
from serval_serving.artifacts import image as names
from serval_serving.artifacts.client import RegistryClient, Settings
from serval_serving.artifacts.errors import ArtifactFailure
from serval_serving.artifacts.image import Manifest, parse_manifest
from serval_serving.cli.errors import NOT_FOUND, REFUSED, UNREACHABLE, USAGE, CliError
from serval_serving.fetch.environment import Environment
from serval_serving.fetch.errors import Failure, FetchError
from serval_serving.fetch.oci.login import Login, read_docker_config
from serval_serving.fetch.oci.reference import ImageReference, is_repository, parse_reference
from serval_serving.fetch.safety.address_policy import AddressPolicy
from serval_serving.fetch.sources import AUTHORITY

MAX_SECONDS: Final = 600.0
_FORM: Final = "an image is written REGISTRY/PATH:TAG or REGISTRY/PATH@sha256:DIGEST"
_WHERE: Final = "a place is written REGISTRY, or REGISTRY/PATH of a repository or of what is above several"


@dataclass(frozen=True, slots=True)
class Stored:
    """An image that a registry has.

    Attributes
    ----------
    name:
        ``REGISTRY/PATH``.
    tags:
        Tags that lead to it, sorted.
    manifest:
        Its manifest; the annotations are the word of the user who pushed it.
    """

    name: str
    tags: tuple[str, ...]
    manifest: Manifest

    @property
    def reference(self) -> str:
        """Return the name by digest."""
        return f"{self.name}@{self.manifest.digest}"

    @property
    def is_artifact(self) -> bool:
        """Return whether Serval made it."""
        return self.manifest.artifact_type == names.ARTIFACT_TYPE

    @property
    def created(self) -> str:
        """Return when its artifact was made; empty if it does not say."""
        return self.manifest.annotations.get(names.CREATED, "")

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        notes = self.manifest.annotations
        return {
            "repository": self.name,
            "tags": list(self.tags),
            "digest": self.manifest.digest,
            "bytes": self.manifest.size,
            "created": self.created,
            "network": notes.get(names.NETWORK, ""),
            "sourceDigest": notes.get(names.SOURCE_DIGEST, ""),
            "artifactType": self.manifest.artifact_type,
            "annotations": dict(notes),
        }


class Images:
    """The images of one registry.

    Parameters
    ----------
    client:
        The registry.
    """

    def __init__(self, client: RegistryClient) -> None:
        self.client = client

    @classmethod
    def at(cls, registry: str, options: argparse.Namespace) -> Images:
        """Reach a registry as the options say.

        Raises
        ------
        CliError
            If the Docker configuration cannot be used.
        ArtifactFailure
            If the registry does not answer.
        """
        # What may be connected to is the caller's own choice here, unlike in a pod.
        environment = Environment(policy=AddressPolicy(()))
        settings = Settings(
            _login(options.docker_config, registry),
            options.ca_file,
            options.plain_http,
            MAX_SECONDS,
            environment,
        )
        return cls(RegistryClient(registry, settings))

    def below(self, path: str) -> list[str]:
        """Return the repositories at or below a path.

        Raises
        ------
        CliError
            If there is none, or the registry lists none.
        """
        if path and self.client.tags(path) is not None:
            return [path]
        listed = self.client.repositories()
        place = f"{self.client.registry}/{path}".rstrip("/")
        if listed is None:
            raise CliError(f"{place} is no repository, and the registry lists none: name one", NOT_FOUND)
        found = [one for one in listed if not path or one.startswith(f"{path}/")]
        if not found:
            raise CliError(f"there is no repository at or below {place}", NOT_FOUND)
        return found

    def of(self, repository: str) -> Iterator[Stored]:
        """Yield the images of a repository that have tags, the newest first."""
        by_digest: dict[str, list[str]] = {}
        manifests: dict[str, Manifest] = {}
        for tag in self.client.tags(repository) or ():
            data = self.client.manifest(repository, tag)
            manifest = None if data is None else _parsed(data)
            if manifest is not None:
                manifests[manifest.digest] = manifest
                by_digest.setdefault(manifest.digest, []).append(tag)
        name = f"{self.client.registry}/{repository}"
        found = [Stored(name, tuple(tags), manifests[digest]) for digest, tags in by_digest.items()]
        yield from sorted(found, key=lambda one: one.created, reverse=True)

    def one(self, reference: ImageReference) -> Stored:
        """Return one image, with all tags that lead to it.

        Raises
        ------
        CliError
            If it is not there.
        """
        data = self.client.manifest(reference.repository, reference.reference)
        if data is None:
            raise CliError(f"there is no image {reference.name}", NOT_FOUND)
        manifest = parse_manifest(data)
        for found in self.of(reference.repository):
            if found.manifest.digest == manifest.digest:
                return found
        return Stored(f"{reference.registry}/{reference.repository}", (), manifest)


def parse_image(text: str) -> ImageReference:
    """Read the name of one image.

    Raises
    ------
    CliError
        If it is none, or has neither tag nor digest.
    """
    try:
        found = parse_reference(text.removeprefix("oci://"), _FORM, default_tag="")
    except FetchError as error:
        raise CliError(_FORM, USAGE) from error
    if not found.reference:
        raise CliError(_FORM, USAGE)
    return found


def parse_place(text: str) -> tuple[str, str]:
    """Read a registry, and a path in it that may be empty.

    Raises
    ------
    CliError
        If it is none.
    """
    registry, _, path = text.removeprefix("oci://").rstrip("/").partition("/")
    if not AUTHORITY.fullmatch(registry) or (path and not is_repository(path)):
        raise CliError(_WHERE, USAGE)
    return registry, path


def refused(error: Failure) -> CliError:
    """Return how a command ends for a failure of the registry."""
    statuses = {REGISTRY_UNREACHABLE: UNREACHABLE, ARTIFACT_NOT_FOUND: NOT_FOUND}
    return CliError(error.message, statuses.get(error.reason, REFUSED))


def _parsed(data: bytes) -> Manifest | None:
    """Read a manifest; None for an index and anything else that is no image."""
    try:
        return parse_manifest(data)
    except ArtifactFailure:
        return None


def _login(path: Path | None, registry: str) -> Login | None:
    default = Path(os.environ.get("DOCKER_CONFIG", "") or Path.home() / ".docker") / "config.json"
    if path is None and not default.is_file():
        return None
    chosen = path or default
    try:
        return read_docker_config(chosen, registry)
    except FetchError as error:
        text = f"{chosen} has no password for {registry} that can be read; passwords in helpers cannot be"
        raise CliError(text, USAGE) from error
