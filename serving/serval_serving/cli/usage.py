"""Which images the objects of a cluster use, as far as the caller may see them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

MAX_DEPTH: Final = 64
_DIGEST: Final = re.compile(r"sha256[:-]([0-9a-f]{64})")
_SERVAL_LABELS: Final = (
    ("app.kubernetes.io/managed-by", "serval-operator"),
    ("app.kubernetes.io/name", "serval"),
)
_FORBIDDEN: Final = frozenset({401, 403})
_ABSENT: Final = frozenset({404, 405})


class Refusal(Exception):
    """The API server does not list a kind.

    Parameters
    ----------
    status:
        Of HTTP.
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"the API server answers {status}")
        self.status = status


Listing = Callable[[str, bool], list[Mapping[str, Any]]]
"""Lists the objects of a kind, in all namespaces or in the caller's; raises `Refusal`."""
KINDS: Final = ("Pod", "Deployment", "ControllerRevision", "ModelDeployment", "AcceleratedModel")


@dataclass(slots=True)
class Usage:
    """What was found.

    Attributes
    ----------
    digests, names:
        Objects by the digest, or by the whole name, of an image that they mention.
    images:
        Images of containers and volumes of Serval's own pods, with the objects.
    unseen:
        What could not be seen, for messages.
    """

    digests: dict[str, list[str]] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)
    images: dict[str, list[str]] = field(default_factory=dict)
    unseen: list[str] = field(default_factory=list)

    def of(self, name: str, digest: str, tags: list[str]) -> list[str]:
        """Return the objects that use an image.

        Parameters
        ----------
        name:
            ``REGISTRY/PATH``.
        digest:
            ``sha256:<hex>``.
        tags:
            Tags that lead to it.
        """
        found = list(self.digests.get(digest, ()))
        for tag in tags:
            found += self.names.get(f"{name}:{tag}", ())
        return sorted(set(found))


def read_usage(listing: Listing, namespace: str) -> Usage:
    """Look through all objects that the caller may list.

    Parameters
    ----------
    namespace:
        The one that is looked at where the caller may not list a kind in all.
    """
    usage = Usage()
    for kind in KINDS:
        for found in _objects(listing, kind, namespace, usage):
            _collect(kind, found, usage)
    return usage


def _objects(listing: Listing, kind: str, namespace: str, usage: Usage) -> list[Mapping[str, Any]]:
    try:
        return listing(kind, True)
    except Refusal as refusal:
        if refusal.status in _ABSENT:  # this kind is not installed
            return []
        if refusal.status not in _FORBIDDEN:
            raise
    try:
        found = listing(kind, False)
    except Refusal as refusal:
        if refusal.status not in _FORBIDDEN | _ABSENT:
            raise
        usage.unseen.append(f"{kind}s in any namespace")
        return []
    usage.unseen.append(f"{kind}s outside namespace {namespace}")
    return found


def _collect(kind: str, found: Mapping[str, Any], usage: Usage) -> None:
    metadata = found.get("metadata") or {}
    label = f"{kind} {metadata.get('namespace', '')}/{metadata.get('name', '')}"
    for text in _texts(found, MAX_DEPTH):
        for match in _DIGEST.finditer(text):
            usage.digests.setdefault(f"sha256:{match[1]}", []).append(label)
        if "/" in text and len(text) < 1024:
            usage.names.setdefault(text.removeprefix("oci://"), []).append(label)
    labels = metadata.get("labels") or {}
    if kind == "Pod" and any(labels.get(name) == value for name, value in _SERVAL_LABELS):
        for image in pod_images(found.get("spec") or {}):
            usage.images.setdefault(image, []).append(label)


def pod_images(spec: Mapping[str, Any]) -> Iterator[str]:
    """Yield the images of a pod's containers and volumes."""
    for key in ("initContainers", "containers"):
        yield from (one["image"] for one in spec.get(key) or () if one.get("image"))
    for volume in spec.get("volumes") or ():
        reference = (volume.get("image") or {}).get("reference")
        if reference:
            yield reference


def _texts(value: object, depth: int) -> Iterator[str]:
    match value:
        case str():
            yield value
        case Mapping() if depth:
            for one in value.values():
                yield from _texts(one, depth - 1)
        case list() if depth:
            for one in value:
                yield from _texts(one, depth - 1)
        case _:
            return
