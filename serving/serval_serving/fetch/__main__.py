"""``python -m serval_serving.fetch``: the init container's program."""

from __future__ import annotations

import argparse
import logging
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Final

from serval_contract import fetch_flags as flags
from serval_contract.models import MAX_VERSION, TENSORFLOW
from serval_contract.paths import RESERVED_NAMES, SOURCE_DIR
from serval_contract.schemes import PREFIXES
from serval_serving.fetch.environment import Environment
from serval_serving.fetch.errors import FetchError, unavailable
from serval_serving.fetch.failure_memo import FailureMemo
from serval_serving.fetch.fetcher import Fetcher
from serval_serving.fetch.model.frameworks import FRAMEWORKS
from serval_serving.fetch.model.models_folder import Batching
from serval_serving.fetch.report import failure_of
from serval_serving.fetch.settings import FetchSettings
from serval_serving.models.folder_digest import file_sha256
from serval_serving.models.savedmodel import SERVE_TAG
from serval_serving.stages.termination import TERMINATION_LOG, write_termination_message

DEFAULT_MAX_SECONDS: Final = 1800.0
_ALARM_GRACE_SECONDS: Final = 2.0
"""The deadline is looked at between pieces of work; the alarm ends a piece that hangs."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")
_SHA256: Final = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})")
_LOG: Final = logging.getLogger("serval.fetch")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; return its exit status: 0 fetched, 1 not."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    settings, termination_log = read_arguments(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    # urllib3 quotes whole URIs, and their secrets, in its warnings.
    logging.getLogger("urllib3").setLevel(logging.CRITICAL)
    _arm(settings.max_seconds)
    return run(settings, Environment(), arguments, termination_log, time.time)


def run(
    settings: FetchSettings,
    environment: Environment,
    arguments: Sequence[str],
    termination_log: Path,
    now: Callable[[], float],
) -> int:
    """Fetch, leave the termination message, and return the exit status.

    Parameters
    ----------
    settings:
        What to fetch.
    environment:
        Clock and network.
    arguments:
        The program's arguments; a permanent failure is remembered for these, and for the files they name.
    termination_log:
        Where the message goes.
    now:
        Wall clock, seconds since the epoch.
    """
    memo = FailureMemo(settings.dest, [*arguments, *_contents(settings)], now)
    error = memo.recall()
    if error is None:
        try:
            settings.dest.mkdir(parents=True, exist_ok=True)
            report = Fetcher(settings, environment).run()
        except FetchError as failure:
            error = failure
        except OSError as failure:
            error = unavailable(f"cannot work in {settings.dest}: {failure.strerror or failure}", again=False)
        else:
            memo.forget()
            write_termination_message(termination_log, report.dump())
            return 0
        if error.permanent:
            with suppress(OSError):  # a full disk must not hide the failure itself
                memo.remember(error)
    else:
        _LOG.info("an earlier try failed for good; not trying again yet")
    _LOG.error("%s: %s", error.reason, error.message)
    write_termination_message(termination_log, failure_of(error).dump())
    return 1


def _contents(settings: FetchSettings) -> list[str]:
    """Return digests of the credentials, authorities and pin: a new one of these is a reason to try again."""
    folder = settings.credentials_dir
    files = sorted(folder.iterdir()) if folder and folder.is_dir() else []
    named = [path for path in (settings.ca_file, settings.pin_file) if path is not None]
    digests = []
    for path in (*files, *named):
        with suppress(OSError):  # not there yet, a folder, or not to be read: whoever needs it says so
            digests.append(file_sha256(path))
    return digests


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m {flags.PROGRAM}",
        description="Bring one version of a model into a pod.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(flags.URI.option, required=True, help=f"begins with one of {', '.join(PREFIXES)}")
    add(flags.NAME.option, required=True, type=_name, help="name of the model")
    add(flags.DEST.option, required=True, type=Path, help="folder that the model server reads")
    add(flags.MAX_BYTES.option, required=True, type=_positive, help="size limit, packed and unpacked")
    add(flags.MAX_ENTRIES.option, required=True, type=_positive, help="most files and folders")
    add(flags.VERSION.option, type=_version, help="the version to take (default: the highest)")
    add(flags.SHA256.option, type=_sha256, help="expected digest of the archive, or else of all files")
    add(flags.CA_FILE.option, type=Path, help="certificates of authorities to trust as well")
    add(flags.FRAMEWORK.option, choices=tuple(FRAMEWORKS), default=TENSORFLOW, help="what the model is")
    add(
        flags.SAVED_MODEL_TAGS.option, type=_tags, default=(SERVE_TAG,), help="all tags of the graph to serve"
    )
    add(flags.CREDENTIALS_DIR.option, type=Path, help="folder of files with credentials for the source")
    add(flags.IDENTITY.option, action="store_true", help="use the identity that the cloud gives the pod")
    add(flags.IMAGE_MOUNT.option, type=Path, help="where the image of an oci:// URI is mounted")
    add(flags.PIN_FILE.option, type=Path, help="version and digest that other replicas serve")
    add(flags.CACHE.option, help="http:// address of a cache of archives")
    add(flags.BATCH_SIZE.option, type=_positive, help="rows of the model server's largest batch")
    add(flags.BATCH_TIMEOUT_MICROS.option, type=_natural, help="microseconds that an incomplete batch waits")
    add(flags.BATCH_ENQUEUED.option, type=_positive, help="batches that may wait for a free thread")
    add(flags.PVC_MOUNT.option, type=Path, default=Path(SOURCE_DIR), help="where the claim is mounted")
    add("--max-seconds", type=float, default=DEFAULT_MAX_SECONDS, help="time limit")
    add("--termination-log", type=Path, default=TERMINATION_LOG, help="where the result goes")
    return parser


def read_arguments(arguments: Sequence[str]) -> tuple[FetchSettings, Path]:
    """Read the command line: the settings, and where the termination message goes.

    Raises
    ------
    SystemExit
        An argument is missing, unknown or cannot be used; the usage is on stderr.
    """
    parser = _parser()
    parsed = parser.parse_args(arguments)
    if parsed.batch_size is None and (parsed.batch_timeout_micros, parsed.batch_enqueued) != (None, None):
        late = f"{flags.BATCH_TIMEOUT_MICROS.option} and {flags.BATCH_ENQUEUED.option}"
        parser.error(f"{late} need {flags.BATCH_SIZE.option}")
    settings = FetchSettings(
        uri=parsed.uri,
        name=parsed.name,
        dest=parsed.dest,
        framework=FRAMEWORKS[parsed.framework],
        tags=parsed.saved_model_tags,
        max_bytes=parsed.max_bytes,
        max_entries=parsed.max_entries,
        version=parsed.version,
        sha256=parsed.sha256,
        ca_file=parsed.ca_file,
        credentials_dir=parsed.credentials_dir,
        identity=parsed.identity,
        pvc_mount=parsed.pvc_mount,
        image_mount=parsed.image_mount,
        pin_file=parsed.pin_file,
        cache=parsed.cache,
        max_seconds=parsed.max_seconds,
        batching=_batching(parsed),
    )
    return settings, parsed.termination_log


def _batching(parsed: argparse.Namespace) -> Batching | None:
    if parsed.batch_size is None:
        return None
    return Batching(parsed.batch_size, parsed.batch_timeout_micros, parsed.batch_enqueued)


def _arm(max_seconds: float) -> None:
    """End a hanging fetch in time, and obey SIGTERM, which a container's first process ignores by default."""

    def out_of_time(_signal: int, _frame: FrameType | None) -> None:
        raise unavailable(f"the model was not there after {max_seconds:g} s", again=False)

    def terminated(_signal: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    signal.signal(signal.SIGALRM, out_of_time)
    signal.signal(signal.SIGTERM, terminated)
    signal.setitimer(signal.ITIMER_REAL, max_seconds + _ALARM_GRACE_SECONDS)


def _name(text: str) -> str:
    if not _NAME.fullmatch(text) or text in RESERVED_NAMES:
        reserved = " and ".join(RESERVED_NAMES)
        text = f"a name consists of letters, digits, '.', '_' and '-'; {reserved} are reserved"
        raise argparse.ArgumentTypeError(text)
    return text


def _tags(text: str) -> tuple[str, ...]:
    return tuple(tag for tag in text.split(",") if tag) or (SERVE_TAG,)


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError("a whole number above zero is wanted")
    return int(text)


def _natural(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError("a whole number is required")
    return int(text)


def _version(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= MAX_VERSION):
        raise argparse.ArgumentTypeError(f"a version is a whole number from 0 to {MAX_VERSION}")
    return int(text)


def _sha256(text: str) -> str:
    match = _SHA256.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError("64 hexadecimal digits are wanted")
    return match[1].lower()


if __name__ == "__main__":
    sys.exit(main())
