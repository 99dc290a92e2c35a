"""Pushes an image: blobs that the registry lacks, then the manifest by digest, then its tag.

Protocol: https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#push. A blob is sent in one
request. It is sent in pieces only where the registry, or a proxy before it, refuses requests of that length.
A blob whose upload failed is begun again, because what a registry kept of a broken upload is not known.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from serval_serving.artifacts.client import PUSH, Answer, RegistryClient
from serval_serving.artifacts.errors import ArtifactFailure, registry_rejected, unreachable
from serval_serving.artifacts.image import Image
from serval_serving.artifacts.layer import Blob, sha256_of
from serval_serving.fetch.sources import HttpsSource

DIGEST_HEADER: Final = "docker-content-digest"
CHUNK_BYTES: Final = 16 << 20
"""Piece of an upload that the registry does not take in one request, if it names no larger least size."""
MAX_CHUNK_BYTES: Final = 256 << 20
"""No registry may have us hold more than this in memory."""
_MIN_CHUNK_HEADER: Final = "oci-chunk-min-length"
_INSISTS: Final = frozenset({405, 413})
"""What is answered to an upload in one request by a registry that takes pieces only."""
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
"""A registry that keeps its blobs in another store redirects to those that it has."""
_OCTETS: Final = "application/octet-stream"
_LOG: Final = logging.getLogger("serval.artifacts")


@dataclass(frozen=True, slots=True)
class Pushed:
    """An image that the registry has.

    Attributes
    ----------
    digest:
        Of its manifest.
    sent:
        Bytes that were sent; the rest was there.
    """

    digest: str
    sent: int


class Pusher:
    """Pushes to one repository.

    Parameters
    ----------
    client:
        The registry.
    repository:
        Path of the repository.
    on_bytes:
        Called with the number of bytes of each piece that was sent.
    """

    def __init__(
        self, client: RegistryClient, repository: str, on_bytes: Callable[[int], None] = lambda _: None
    ) -> None:
        self._client = client
        self._repository = repository
        self._scope = client.scope(repository, PUSH)
        self._on_bytes = on_bytes
        self._in_chunks = False

    def push(self, image: Image, tag: str) -> Pushed:
        """Make the registry hold the image under a tag.

        Raises
        ------
        ArtifactFailure
            ``RegistryUnreachable``, ``PushDenied`` or ``RegistryRejected``.
        """
        sent = 0
        for entry in image.inherited:
            if not self._has(str(entry["digest"])):
                text = f"{self._where} lacks {entry['digest']}, a layer of the base image"
                raise registry_rejected(f"{text}: copy the base image there")
        for blob in (*(layer.blob for layer in image.layers), image.config):
            sent += self._client.retried(partial(self._blob, blob))
        for reference in (image.digest, tag):
            self._client.retried(partial(self._manifest, image, reference))
        return Pushed(image.digest, sent + len(image.manifest))

    @property
    def _where(self) -> str:
        return f"{self._client.registry}/{self._repository}"

    def _has(self, digest: str) -> bool:
        answer = self._client.send("HEAD", self._client.at(self._repository, f"blobs/{digest}"), self._scope)
        if answer.status not in {200, 404, *_REDIRECTS}:
            raise self._client.refusal(answer, f"{self._where} is not read")
        return answer.status != 404

    def _blob(self, blob: Blob) -> int:
        """Send a blob that is not there; return the bytes sent."""
        if self._has(blob.digest):
            return 0
        if not self._in_chunks:
            place, _ = self._begin(blob)
            answer = self._put(place, blob, blob.size, blob.chunks)
            if answer.status not in _INSISTS:
                self._finished(answer, blob)
                return blob.size
            _LOG.info(
                "the registry answers %s to %d bytes in one request; sending pieces", answer.words, blob.size
            )
            self._in_chunks = True
        self._pieces(blob)
        return blob.size

    def _begin(self, blob: Blob) -> tuple[HttpsSource, int]:
        """Begin an upload; return where it goes, and the least size of a piece."""
        start = self._client.at(self._repository, "blobs/uploads/")
        answer = self._client.send("POST", start, self._scope, {"Content-Length": "0"})
        if answer.status != 202:
            raise self._client.refusal(answer, f"{self._where} takes no upload of {blob.digest}")
        least = answer.headers.get(_MIN_CHUNK_HEADER, "")
        size = int(least) if least.isascii() and least.isdigit() else 0
        return self._client.follow(start, answer.headers.get("location", "")), size

    def _put(
        self, place: HttpsSource, blob: Blob, size: int, chunks: Callable[[], Iterator[bytes]]
    ) -> Answer:
        """Send the last or only part of an upload."""
        uri = f"{place.uri}{'&' if '?' in place.uri else '?'}digest={blob.digest}"
        headers = {"Content-Type": _OCTETS, "Content-Length": str(size)}
        return self._client.send(
            "PUT", self._client.follow(place, uri), self._scope, headers, self._counted(chunks)
        )

    def _pieces(self, blob: Blob) -> None:
        place, least = self._begin(blob)
        if least > MAX_CHUNK_BYTES:
            raise registry_rejected(
                f"the registry wants pieces of {least} bytes, more than {MAX_CHUNK_BYTES}"
            )
        offset = 0
        for piece in _cut(blob.chunks(), max(least, CHUNK_BYTES)):
            headers = {
                "Content-Type": _OCTETS,
                "Content-Length": str(len(piece)),
                "Content-Range": f"{offset}-{offset + len(piece) - 1}",
            }
            body = self._counted(partial(iter, (piece,)))
            answer = self._client.send("PATCH", place, self._scope, headers, body)
            if answer.status != 202:
                raise self._unfinished(answer, blob)
            place = self._client.follow(place, answer.headers.get("location", ""))
            offset += len(piece)
        self._finished(self._put(place, blob, 0, lambda: iter(())), blob)

    def _finished(self, answer: Answer, blob: Blob) -> None:
        if answer.status != 201:
            raise self._unfinished(answer, blob)
        self._compare(answer.headers.get(DIGEST_HEADER, blob.digest), blob.digest)

    def _unfinished(self, answer: Answer, blob: Blob) -> ArtifactFailure:
        """Return why an upload that was begun does not end."""
        if answer.status == 404:  # the registry was restarted, or another replica of it answers
            return unreachable(f"{self._where} no longer knows the upload of {blob.digest}")
        return self._client.refusal(answer, f"{self._where} does not take {blob.digest}")

    def _manifest(self, image: Image, reference: str) -> None:
        where = self._client.at(self._repository, f"manifests/{reference}")
        headers = {"Content-Type": image.media_type, "Content-Length": str(len(image.manifest))}
        body = self._counted(lambda: iter((image.manifest,)))
        answer = self._client.send("PUT", where, self._scope, headers, body)
        if answer.status != 201:
            raise self._client.refusal(answer, f"{self._where} does not take the manifest {reference}")
        self._compare(answer.headers.get(DIGEST_HEADER, image.digest), image.digest)
        stored = self._client.manifest(self._repository, reference)
        self._compare("" if stored is None else sha256_of((stored,))[0], image.digest)

    def _compare(self, stored: str, digest: str) -> None:
        """Compare the digest of what the registry stored with that of what was sent."""
        if stored != digest:
            raise registry_rejected(f"{self._where} did not store what was sent, which is {digest}")

    def _counted(self, chunks: Callable[[], Iterator[bytes]]) -> Callable[[], Iterator[bytes]]:
        """Return a body that stops when the time is up, and tells how far it is."""

        def body() -> Iterator[bytes]:
            for chunk in chunks():
                self._client.deadline.check()
                yield chunk
                self._on_bytes(len(chunk))

        return body


def _cut(chunks: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Yield pieces of `size` bytes; the last one may be shorter."""
    held = bytearray()
    for chunk in chunks:
        held += chunk
        while len(held) >= size:
            yield bytes(held[:size])
            del held[:size]
    if held:
        yield bytes(held)
