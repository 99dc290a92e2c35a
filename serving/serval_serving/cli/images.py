"""``serval images``: what a registry has of converted models, and what may be deleted of it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from typing import Any, Final

from serval_serving.accel.artifact import CONVERSION_FILE
from serval_serving.artifacts import image as names
from serval_serving.artifacts.artifact import LOG_FILE, MAX_REPORT_BYTES, read_report
from serval_serving.artifacts.errors import ArtifactFailure
from serval_serving.cli.errors import NOT_FOUND, OK, REFUSED, USAGE, CliError
from serval_serving.cli.extra import cluster_of
from serval_serving.cli.stored import Images, Stored, parse_image, parse_place, refused
from serval_serving.cli.tables import table
from serval_serving.cli.usage import Usage
from serval_serving.fetch.progress import human

_SHORT: Final = len("sha256:") + 12
_NOTHING: Final = "-"

Command = Callable[[argparse.Namespace], int]


def _command(run: Command) -> Command:
    """Let a command end as the registry's failure says."""

    @wraps(run)
    def wrapped(options: argparse.Namespace) -> int:
        try:
            return run(options)
        except ArtifactFailure as error:
            raise refused(error) from error

    return wrapped


@_command
def list_images(options: argparse.Namespace) -> int:
    """Print the images below a place."""
    found = [one for _, one in _stored(options)]
    if options.json:
        print(json.dumps([one.as_json() for one in found], indent=2))
        return OK
    header = ("REPOSITORY", "TAG", "DIGEST", "SIZE", "DATE", "NETWORK", "SOURCE")
    print(table(header, (_row(one, digest_length=None if options.digests else _SHORT) for one in found)))
    return OK


@_command
def log(options: argparse.Namespace) -> int:
    """Print the log of the conversion that made an image, or else its report."""
    reference = parse_image(options.image)
    images = Images.at(reference.registry, options)
    stored = images.one(reference)
    files = _report_files(images, reference.repository, stored)
    report = _report(files.get(CONVERSION_FILE, b""))
    if options.json:
        print(
            json.dumps({"image": stored.reference, "report": report, "log": _shown(files.get(LOG_FILE, b""))})
        )
    elif files.get(LOG_FILE):
        print(_shown(files[LOG_FILE]).rstrip("\n"))
    else:
        print(
            table(
                ("REPORT", "VALUE"), ((name, _shown(str(value).encode())) for name, value in report.items())
            )
        )
    return OK


@_command
def delete(options: argparse.Namespace) -> int:
    """Delete images that nothing uses, as far as can be seen."""
    references = [parse_image(text) for text in options.images]
    usage = _usage(options)
    stores: dict[str, Images] = {}
    status = OK
    for reference in references:
        images = stores.setdefault(reference.registry, Images.at(reference.registry, options))
        stored = images.one(reference)
        users = usage.of(stored.name, stored.manifest.digest, list(stored.tags))
        if users:
            print(f"serval: {stored.reference} is in use and stays: {_some(users)}", file=sys.stderr)
            status = REFUSED
            continue
        images.client.delete(reference.repository, stored.manifest.digest)
        print(f"deleted {stored.reference}{_tags_of(stored)}")
    return status


@_command
def prune(options: argparse.Namespace) -> int:
    """Delete all but the newest artifacts of each repository, and those in use."""
    if options.keep < 0:
        raise CliError("--keep is a whole number, 0 or above", USAGE)
    usage = _usage(options)
    if usage.unseen and not options.allow_unseen and not options.dry_run:
        text = "what uses an image may be where you cannot see it; --allow-unseen deletes nevertheless"
        raise CliError(text, REFUSED)
    decided: list[tuple[Stored, str]] = []
    newer: dict[str, int] = {}
    for images, stored in _stored(options):
        why = _reason_to_keep(stored, usage, newer, options.keep)
        decided.append((stored, why))
        if not why and not options.dry_run:
            repository = stored.name.partition("/")[2]
            images.client.delete(repository, stored.manifest.digest)
    _print_pruned(decided, options)
    return OK


@_command
def mirror_list(options: argparse.Namespace) -> int:
    """Print images by digest, one on a line, for tools that copy them to a registry without a network."""
    found: dict[str, list[str]] = {}
    if options.place:
        for _, stored in _stored(options):
            found[stored.reference] = list(stored.tags)
    else:
        found = {image: sorted(set(users)) for image, users in _usage(options).images.items()}
        if not found:
            raise CliError("no pod of Serval can be seen", NOT_FOUND)
    if options.json:
        key = "tags" if options.place else "usedBy"
        print(json.dumps([{"image": image, key: of} for image, of in sorted(found.items())], indent=2))
    else:
        print("\n".join(sorted(found)))
    return OK


def _stored(options: argparse.Namespace) -> Iterator[tuple[Images, Stored]]:
    registry, path = parse_place(options.place)
    images = Images.at(registry, options)
    for repository in images.below(path):
        yield from ((images, one) for one in images.of(repository))


def _row(stored: Stored, digest_length: int | None) -> tuple[str, ...]:
    notes = stored.manifest.annotations
    return (
        stored.name,
        ",".join(stored.tags) or _NOTHING,
        stored.manifest.digest[:digest_length],
        human(stored.manifest.size),
        stored.created or _NOTHING,
        notes.get(names.NETWORK) or _NOTHING,
        notes.get(names.SOURCE_DIGEST, "")[:digest_length] or _NOTHING,
    )


def _report_files(images: Images, repository: str, stored: Stored) -> dict[str, bytes]:
    layers = stored.manifest.layers
    if not layers or layers[-1].size > MAX_REPORT_BYTES or not stored.is_artifact:
        raise CliError(f"{stored.reference} was not made by Serval, and keeps no report", NOT_FOUND)
    data = images.client.blob(repository, layers[-1].digest, MAX_REPORT_BYTES)
    return {file.name: b"".join(file.chunks()) for file in read_report(data)}


def _report(data: bytes) -> dict[str, Any]:
    """Return the report of a conversion.json, whatever else it has."""
    try:
        report = json.loads(data)["report"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return {}
    return report if isinstance(report, dict) else {}


def _shown(data: bytes) -> str:
    """Return a text that another program wrote, without what a terminal would obey."""
    text = data.decode(errors="replace")
    return "".join(one for one in text if one.isprintable() or one in "\n\t")


def _usage(options: argparse.Namespace) -> Usage:
    if options.no_cluster:
        return Usage(unseen=["any cluster"])
    usage = cluster_of(options).usage()
    for words in usage.unseen:
        print(f"serval: {words} cannot be seen: images may be in use there", file=sys.stderr)
    return usage


def _reason_to_keep(stored: Stored, usage: Usage, newer: dict[str, int], keep: int) -> str:
    """Return why an image stays; empty if it does not. Images come with the newest first."""
    if not stored.is_artifact:
        return "not made by Serval"
    users = usage.of(stored.name, stored.manifest.digest, list(stored.tags))
    newer[stored.name] = newer.get(stored.name, 0) + 1
    if users:
        return f"used by {_some(users)}"
    return f"one of the {keep} newest" if newer[stored.name] <= keep else ""


def _print_pruned(decided: Iterable[tuple[Stored, str]], options: argparse.Namespace) -> None:
    gone = "would be deleted" if options.dry_run else "deleted"
    if options.json:
        print(
            json.dumps([{**one.as_json(), "kept": bool(why), "why": why} for one, why in decided], indent=2)
        )
        return
    rows = ((*_row(one, _SHORT)[:5], why or gone) for one, why in decided)
    print(table(("REPOSITORY", "TAG", "DIGEST", "SIZE", "DATE", "RESULT"), rows))


def _some(users: list[str]) -> str:
    more = len(users) - 3
    return ", ".join(users[:3]) + (f" and {more} more" if more > 0 else "")


def _tags_of(stored: Stored) -> str:
    return f" (tags: {', '.join(stored.tags)})" if stored.tags else ""
