"""Pushing an image of a layout to a registry that speaks plain HTTP, as the lab's does.

Protocol: https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#push. Blobs that the
registry has are not sent again, and an image whose tag it knows by this digest costs one request.
"""

from __future__ import annotations

from urllib.parse import urljoin

import urllib3

from serval_lab.images.errors import ImageError
from serval_lab.images.layout import Blob, Image

CONNECT_LIMIT_S = 5.0
READ_LIMIT_S = 120.0
OCTETS = "application/octet-stream"
DIGEST_HEADER = "Docker-Content-Digest"


class Registry:
    """A registry, and one connection to it.

    Parameters
    ----------
    address:
        ``HOST:PORT``.
    """

    def __init__(self, address: str) -> None:
        self._url = f"http://{address}"
        limits = urllib3.Timeout(connect=CONNECT_LIMIT_S, read=READ_LIMIT_S)
        self._http = urllib3.PoolManager(timeout=limits, retries=urllib3.Retry(connect=2, other=0))

    def push(self, image: Image, repository: str, tag: str) -> int:
        """Make the registry hold the image under ``repository:tag``.

        Returns
        -------
        int
            Bytes sent.

        Raises
        ------
        ImageError
            The registry cannot be reached or refused a part.
        """
        try:
            if self._has_tag(image, repository, tag):
                return 0
            missing = [blob for blob in image.blobs if not self._has_blob(blob, repository)]
            for blob in missing:
                self._send_blob(blob, repository)
            body = image.manifest.path.read_bytes()
            url = f"{self._url}/v2/{repository}/manifests/{tag}"
            self._request("PUT", url, (201,), body=body, content_type=image.media_type)
        except urllib3.exceptions.HTTPError as error:
            raise ImageError(f"cannot push to {self._url}: {error}") from error
        return sum(blob.size for blob in missing) + len(body)

    def _has_tag(self, image: Image, repository: str, tag: str) -> bool:
        url = f"{self._url}/v2/{repository}/manifests/{tag}"
        answer = self._http.request("HEAD", url, headers={"Accept": image.media_type})
        return answer.status == 200 and answer.headers.get(DIGEST_HEADER) == image.manifest.digest

    def _has_blob(self, blob: Blob, repository: str) -> bool:
        return self._http.request("HEAD", f"{self._url}/v2/{repository}/blobs/{blob.digest}").status == 200

    def _send_blob(self, blob: Blob, repository: str) -> None:
        start = f"{self._url}/v2/{repository}/blobs/uploads/"
        location = urljoin(start, self._request("POST", start, (202,)).headers["Location"])
        url = f"{location}{'&' if '?' in location else '?'}digest={blob.digest}"
        with blob.path.open("rb") as file:
            self._request("PUT", url, (201,), body=file, content_type=OCTETS, length=blob.size)

    def _request(
        self,
        method: str,
        url: str,
        expected: tuple[int, ...],
        *,
        body: object = b"",
        content_type: str = OCTETS,
        length: int | None = None,
    ) -> urllib3.BaseHTTPResponse:
        headers = {"Content-Type": content_type}
        if length is not None:
            headers["Content-Length"] = str(length)
        answer = self._http.request(method, url, body=body, headers=headers)  # type: ignore[arg-type]
        if answer.status not in expected:
            text = answer.data.decode(errors="replace")[:300]
            raise ImageError(f"{method} {url}: {answer.status} {text}")
        return answer
