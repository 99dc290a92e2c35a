"""A client of the lab's API server, as small as the lab needs: JSON over HTTPS with a client certificate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import urllib3

from serval_lab.errors import LabError
from serval_lab.pki import KeyPair

TIMEOUT = urllib3.Timeout(connect=2.0, read=10.0)


class KubeClient:
    """Talks to one API server.

    Parameters
    ----------
    server
        URL of the API server.
    ca
        Certificate of its authority.
    client
        Certificate and key of the user.
    """

    def __init__(self, server: str, ca: Path, client: KeyPair) -> None:
        self._server = server
        self._pool = urllib3.PoolManager(
            ca_certs=str(ca),
            cert_file=str(client.cert),
            key_file=str(client.key),
            retries=False,
            timeout=TIMEOUT,
        )

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

    def ready(self) -> bool:
        """Whether the API server says that it is ready."""
        try:
            return self._pool.request("GET", f"{self._server}/readyz").status == 200
        except (urllib3.exceptions.HTTPError, OSError):
            return False

    def get(self, path: str) -> dict[str, Any] | None:
        """Return the object or list at `path`; None if it does not exist.

        Raises
        ------
        LabError
            If the API server cannot be reached or refuses.
        """
        return self.request("GET", path, missing_ok=True)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content: str = "application/json",
        missing_ok: bool = False,
    ) -> dict[str, Any] | None:
        """Send one request and return the answer.

        Parameters
        ----------
        method, path
            HTTP method and path below the server's URL.
        body
            Sent as JSON.
        content
            Content type of the body, such as a patch type.
        missing_ok
            Return None where the answer is 404.

        Raises
        ------
        LabError
            If the API server cannot be reached or refuses.
        """
        try:
            answer = self._pool.request(
                method,
                self._server + path,
                body=None if body is None else json.dumps(body),
                headers={"Content-Type": content, "Accept": "application/json"},
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise LabError(f"{method} {path}: the API server does not answer: {error}") from error
        if answer.status == 404 and missing_ok:
            return None
        if answer.status >= 300:
            raise LabError(f"{method} {path}: {answer.status}: {answer.data.decode(errors='replace')[:500]}")
        result: dict[str, Any] = answer.json()
        return result

    def apply(self, path: str, body: dict[str, Any]) -> None:
        """Apply an object at its own `path`, by server-side apply.

        Raises
        ------
        LabError
            If the API server cannot be reached or refuses.
        """
        where = f"{path}?fieldManager=serval-lab&force=true"
        self.request("PATCH", where, body, content="application/apply-patch+yaml")  # JSON is YAML

    def nodes(self) -> dict[str, dict[str, Any]]:
        """Return all Node objects by name."""
        listed = self.get("/api/v1/nodes") or {}
        return {node["metadata"]["name"]: node for node in listed.get("items", [])}


def is_ready(node: dict[str, Any]) -> bool:
    """Whether a Node object says that its node is ready."""
    conditions = node.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def allocatable(node: dict[str, Any], resource: str) -> int:
    """Return how many units of an extended resource a Node object offers to pods."""
    return int(node.get("status", {}).get("allocatable", {}).get(resource, "0"))
