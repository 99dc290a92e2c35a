"""Settings of a fetch, its environment, and the context that all sources share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from serval_contract.reasons import MODEL_DIGEST_MISMATCH
from serval_serving.fetch.environment import Environment
from serval_serving.fetch.errors import FetchError
from serval_serving.fetch.model.frameworks import Framework
from serval_serving.fetch.model.models_folder import Batching
from serval_serving.fetch.model.versions import Wanted
from serval_serving.fetch.progress import Deadline, Progress
from serval_serving.fetch.safety.limits import Budget
from serval_serving.fetch.safety.transport import Transport, tls_context
from serval_serving.models.savedmodel import SERVE_TAG


@dataclass(frozen=True, slots=True)
class FetchSettings:
    """What to fetch, and within which limits.

    Attributes
    ----------
    uri:
        Where the model is; `sources` tells the forms.
    name:
        The model's name: the folder below `dest`.
    dest:
        Where the model server looks for models.
    framework:
        What the model is.
    max_bytes:
        Most bytes of the archive, and most bytes of all files of the model.
    max_entries:
        Most files and folders.
    version:
        The version that is wanted; None for the highest, or that of the pin.
    sha256:
        Expected digest, hexadecimal: of the archive, or else of all files. None: not checked.
    ca_file:
        Certificates of authorities to trust beside the system's.
    credentials_dir:
        Files with the credentials for the source; None without.
    identity:
        Whether the fetch may act as the pod, by the identity that its cloud gives it.
    pvc_mount:
        Where the claim is mounted.
    image_mount:
        Where the image of an ``oci://`` URI is mounted; None where it has to be fetched.
    pin_file:
        Names the version and digest that other replicas serve; it need not exist.
    cache:
        ``http://`` address of a cache of archives; None without.
    max_seconds:
        How long the whole may take.
    batching:
        How the model server shall batch requests; None without.
    tags:
        All tags of the graph of a SavedModel that the server loads.
    """

    uri: str
    name: str
    dest: Path
    framework: Framework
    max_bytes: int
    max_entries: int
    version: int | None
    sha256: str | None
    ca_file: Path | None
    credentials_dir: Path | None
    identity: bool
    pvc_mount: Path
    image_mount: Path | None
    pin_file: Path | None
    cache: str | None
    max_seconds: float
    batching: Batching | None = None
    tags: tuple[str, ...] = (SERVE_TAG,)


@dataclass(frozen=True, slots=True)
class FetchContext:
    """One fetch in progress: what all sources share.

    Attributes
    ----------
    settings, environment:
        As given.
    wanted:
        Framework and version to look for.
    budget:
        What the model's files may take.
    deadline:
        When the whole fetch must be complete.
    progress:
        Counts the bytes.
    """

    settings: FetchSettings
    environment: Environment
    wanted: Wanted
    budget: Budget
    deadline: Deadline
    progress: Progress

    @classmethod
    def begin(cls, settings: FetchSettings, environment: Environment, version: int | None) -> FetchContext:
        """Start the clock.

        Parameters
        ----------
        version:
            The version to take; None for the highest.
        """
        return cls(
            settings,
            environment,
            Wanted(settings.framework, version),
            Budget(settings.max_bytes, settings.max_entries),
            Deadline(environment.clock, settings.max_seconds),
            Progress(environment.clock),
        )

    def transport(self) -> Transport:
        """Return what sends requests, with the trusted authorities.

        Raises
        ------
        FetchError
            If the file of authorities cannot be used.
        """
        context = tls_context(self.settings.ca_file)
        return Transport(context, self.environment.resolve, self.environment.policy)

    def authorities(self) -> str:
        """Return the text of the file of authorities, which must be set.

        Raises
        ------
        FetchError
            If it cannot be used.
        """
        tls_context(self.settings.ca_file)
        return (
            self.settings.ca_file.read_text(encoding="ascii", errors="ignore")
            if self.settings.ca_file
            else ""
        )

    def compare(self, actual: str, what: str) -> None:
        """Raise ``ModelDigestMismatch`` if a digest is expected and `actual`, that of `what`, is another."""
        expected = self.settings.sha256
        if expected is not None and actual != expected:
            text = f"sha256 of {what} is {actual}; {expected} is expected"
            raise FetchError(MODEL_DIGEST_MISMATCH, text, permanent=True)
