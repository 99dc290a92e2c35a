"""``python -m serval_serving.artifacts.push_stage``: the last container of the Job that converts a model.

It is the only one with the credential of the registry. It reads files and sends them. It imports, runs and
unpacks nothing of the user's; of the artifact's content it reads `conversion.json` only.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Final

from serval_contract import accel_flags as flags
from serval_contract import fetch_flags
from serval_contract.artifact_reasons import PUSH_DENIED, REGISTRY_UNREACHABLE, STORE_UNAVAILABLE
from serval_contract.progress import Progress
from serval_serving.artifacts import image as names
from serval_serving.artifacts.artifact import MAX_REPORT_BYTES, Artifact, is_same, read_artifact, read_report
from serval_serving.artifacts.client import DEFAULT_MAX_SECONDS, RegistryClient, Settings
from serval_serving.artifacts.errors import (
    ArtifactFailure,
    artifact_invalid,
    translated,
    unreachable,
)
from serval_serving.artifacts.folder import DEFAULT_MAX_BYTES, DEFAULT_MAX_ENTRIES, Limits
from serval_serving.artifacts.image import Manifest, parse_manifest
from serval_serving.artifacts.layer import sha256_of
from serval_serving.artifacts.layout import ClaimStore, folder_name
from serval_serving.artifacts.push import Pusher
from serval_serving.fetch.environment import Environment
from serval_serving.fetch.errors import Failure
from serval_serving.fetch.oci.login import read_login
from serval_serving.fetch.oci.reference import TAG, parse_reference
from serval_serving.fetch.progress import Clock, Deadline, human
from serval_serving.stages.program import Report, StageFailure, StageResult, run_stage, start_logging
from serval_serving.stages.termination import TERMINATION_LOG

STAGE: Final = "push"
_ALARM_GRACE_SECONDS: Final = 2.0
"""The deadline is looked at between pieces of work; the alarm ends a piece that hangs."""
_REPORT_SECONDS: Final = 5.0
_TAG_DIGITS: Final = 40
_REPOSITORY_FORM: Final = "a repository is written REGISTRY/PATH in small letters, without a tag"
_LOG: Final = logging.getLogger("serval.artifacts")


@dataclass(frozen=True, slots=True)
class PushSettings:
    """What is stored where.

    Attributes
    ----------
    artifact:
        The artifact's folder.
    repository:
        ``REGISTRY/PATH``; with a `store`, the path alone.
    cache_key:
        What the conversion depended on; empty if no other run may take its result.
    tag:
        Under which it is stored.
    store:
        Where a claim is mounted that takes the place of the registry; None for a registry.
    plain:
        Whether the registry is reached without TLS.
    credentials_dir:
        The mounted Secret; None without.
    ca_file:
        Authorities to trust beside the system's.
    limits:
        What the artifact may have.
    max_seconds:
        How long the whole may take.
    progress_port:
        Port of the progress page; 0 for none.
    """

    artifact: Path
    repository: str
    cache_key: str
    tag: str
    store: Path | None = None
    plain: bool = False
    credentials_dir: Path | None = None
    ca_file: Path | None = None
    limits: Limits = field(default_factory=Limits)
    max_seconds: float = DEFAULT_MAX_SECONDS
    progress_port: int = 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; return its exit status: 0 stored, 1 not."""
    settings, termination_log = read_arguments(sys.argv[1:] if arguments is None else arguments)
    start_logging()
    # urllib3 quotes whole URIs, and the secrets in them, in its warnings.
    logging.getLogger("urllib3").setLevel(logging.CRITICAL)
    _arm(settings.max_seconds)
    return run(settings, Environment(), termination_log)


def run(settings: PushSettings, environment: Environment, termination_log: Path) -> int:
    """Store the artifact, leave the report, and return the exit status."""

    def work(report: Report) -> StageResult:
        try:
            return StageResult(push(settings, environment, report))
        except Failure as error:
            raise StageFailure(error.reason, error.message, permanent=error.permanent) from error
        except OSError as error:
            words = error.strerror or type(error).__name__
            text = f"the stage cannot work: {words}"
            raise StageFailure(STORE_UNAVAILABLE, text, permanent=False) from error

    return run_stage(STAGE, work, progress_port=settings.progress_port, termination_log=termination_log)


def push(settings: PushSettings, environment: Environment, report: Report) -> dict[str, Any]:
    """Store the artifact; return the result for the report.

    ``artifact`` is the image by digest, ``bytes`` its size, ``sent`` what was sent of it, ``cached`` whether
    an image of an earlier run was taken. With a claim, ``folder`` is the folder of the claim that pods mount.

    Raises
    ------
    ArtifactFailure
        It is not stored.
    """
    artifact = read_artifact(settings.artifact, settings.limits, cache_key=settings.cache_key)
    sent = _Sent(report, environment.clock, artifact.image.size)
    if settings.store is None:
        return _to_registry(settings, environment, artifact, sent)
    return _to_claim(settings, settings.store, environment, artifact)


def tag_of(cache_key: str) -> str:
    """Return the tag of a cache key, whatever characters it has."""
    return f"cache-{hashlib.sha256(cache_key.encode()).hexdigest()[:_TAG_DIGITS]}"


def _to_registry(
    settings: PushSettings, environment: Environment, artifact: Artifact, sent: _Sent
) -> dict[str, Any]:
    with translated():
        where = parse_reference(settings.repository, _REPOSITORY_FORM, default_tag="")
        if where.reference:
            raise artifact_invalid(_REPOSITORY_FORM)
        login = read_login(settings.credentials_dir, where.registry)
    client = RegistryClient(
        where.registry, Settings(login, settings.ca_file, settings.plain, settings.max_seconds, environment)
    )
    found = _cached(
        settings,
        artifact,
        lambda: client.manifest(where.repository, settings.tag),
        lambda digest: client.blob(where.repository, digest, MAX_REPORT_BYTES),
    )
    if found is not None:
        return _result(settings, found.digest, found.size, cached=True)
    pushed = Pusher(client, where.repository, sent.add).push(artifact.image, settings.tag)
    return _result(settings, pushed.digest, artifact.image.size, cached=False) | {"sent": pushed.sent}


def _to_claim(
    settings: PushSettings, root: Path, environment: Environment, artifact: Artifact
) -> dict[str, Any]:
    with translated():
        deadline = Deadline(environment.clock, settings.max_seconds, "the artifact was not stored")
        store = ClaimStore(root, settings.repository, deadline, environment.sleep)
        found = _cached(
            settings,
            artifact,
            lambda: store.manifest(settings.tag),
            lambda digest: store.blob(digest, MAX_REPORT_BYTES) or b"",
        )
        if found is not None and (store.folder / folder_name(found.digest)).is_dir():
            digest, size = found.digest, found.size
        else:
            store.store(artifact.image, artifact.files, settings.tag)
            digest, size, found = artifact.image.digest, artifact.image.size, None
    result = _result(settings, digest, size, cached=found is not None)
    return result | {"folder": f"{settings.repository}/{folder_name(digest)}"}


def _cached(
    settings: PushSettings,
    artifact: Artifact,
    manifest: Callable[[], bytes | None],
    blob: Callable[[str], bytes],
) -> Manifest | None:
    """Return the image that an earlier run stored for the same cache key, if it is this very artifact."""
    found = "damaged"
    try:
        data = manifest() if settings.cache_key else None
        if data is None:
            return None
        found = sha256_of((data,))[0]
        stored = parse_manifest(data)
        if stored.annotations.get(names.CACHE_KEY) != settings.cache_key or len(stored.layers) < 2:
            return None
        report = stored.layers[-1]
        if report.size <= MAX_REPORT_BYTES and is_same(artifact, data, read_report(blob(report.digest))):
            return stored
    except ArtifactFailure as error:
        if error.reason == REGISTRY_UNREACHABLE:
            raise
        if error.reason == PUSH_DENIED:  # some registries say so of a repository that does not exist yet
            return None
    _LOG.warning(
        "the tag %s has this cache key and another content, %s: it is not used, and is replaced",
        settings.tag,
        found,
    )
    return None


def _result(settings: PushSettings, digest: str, size: int, *, cached: bool) -> dict[str, Any]:
    _LOG.info("%s: %s, %s", settings.repository, digest, human(size))
    return {"artifact": f"{settings.repository}@{digest}", "bytes": size, "cached": cached}


class _Sent:
    """Reports from time to time how many bytes were sent."""

    def __init__(self, report: Report, clock: Clock, total: int) -> None:
        self._report = report
        self._clock = clock
        self._total = total
        self._sent = 0
        self._next = clock() + _REPORT_SECONDS

    def add(self, count: int) -> None:
        """Count bytes that were sent."""
        self._sent += count
        if self._clock() >= self._next:
            self._next = self._clock() + _REPORT_SECONDS
            # A part that is sent again counts again.
            step = min(self._sent, self._total)
            self._report(Progress(step, self._total, "bytes", "sending the artifact", STAGE))


def read_arguments(arguments: Sequence[str]) -> tuple[PushSettings, Path]:
    """Read the command line: the settings, and where the report goes.

    Raises
    ------
    SystemExit
        An argument is missing, unknown or cannot be used; the usage is on stderr.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {flags.PUSH_PROGRAM}",
        description="Store an artifact as an image in a registry, or in a mounted claim.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(flags.ARTIFACT.option, required=True, type=Path, help="folder with conversion.json")
    add(
        flags.REPOSITORY.option,
        required=True,
        help=f"REGISTRY/PATH; the path alone with {flags.STORE.option}",
    )
    add(flags.CACHE_KEY.option, default="", help="what the conversion depends on")
    add(flags.TAG.option, type=_tag, help="tag (default: made of the cache key)")
    add(flags.STORE.option, type=Path, help="mounted claim that takes the place of a registry")
    add(flags.PLAIN_HTTP.option, action="store_true", help="reach the registry without TLS")
    add(flags.PROGRESS_PORT.option, type=int, default=0, help="port of the progress page; 0 for none")
    add(fetch_flags.CREDENTIALS_DIR.option, type=Path, help="folder with .dockerconfigjson")
    add(fetch_flags.CA_FILE.option, type=Path, help="certificates of authorities to trust as well")
    add(fetch_flags.MAX_BYTES.option, type=int, default=DEFAULT_MAX_BYTES, help="most bytes of the artifact")
    add(fetch_flags.MAX_ENTRIES.option, type=int, default=DEFAULT_MAX_ENTRIES, help="most files and folders")
    add("--max-seconds", type=float, default=DEFAULT_MAX_SECONDS, help="time limit")
    add("--termination-log", type=Path, default=TERMINATION_LOG, help="where the report goes")
    parsed = vars(parser.parse_args(arguments))
    if not parsed["cache_key"] and not parsed["tag"]:
        parser.error(f"one of {flags.CACHE_KEY.option} and {flags.TAG.option} is required")
    return _settings(parsed), parsed["termination_log"]


def _settings(parsed: Mapping[str, Any]) -> PushSettings:
    return PushSettings(
        artifact=parsed["artifact"],
        repository=parsed["repository"],
        cache_key=parsed["cache_key"],
        tag=parsed["tag"] or tag_of(parsed["cache_key"]),
        store=parsed["store"],
        plain=parsed["plain_http"],
        credentials_dir=parsed["credentials_dir"],
        ca_file=parsed["ca_file"],
        limits=Limits(parsed["max_bytes"], parsed["max_entries"]),
        max_seconds=parsed["max_seconds"],
        progress_port=parsed["progress_port"],
    )


def _tag(text: str) -> str:
    if not TAG.fullmatch(text):
        raise argparse.ArgumentTypeError("a tag has up to 128 letters, digits, '_', '.' and '-'")
    return text


def _arm(max_seconds: float) -> None:
    """End a push that hangs."""

    def out_of_time(_signal: int, _frame: FrameType | None) -> None:
        raise unreachable(f"the artifact was not stored after {max_seconds:g} s", again=False)

    signal.signal(signal.SIGALRM, out_of_time)
    signal.setitimer(signal.ITIMER_REAL, max_seconds + _ALARM_GRACE_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
