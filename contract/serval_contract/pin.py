"""The file that binds the replicas of a revision to one model: the operator writes it, the fetcher reads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from serval_contract.models import DIGEST, MAX_VERSION

PIN_FILE: Final = "pin.json"
"""Name of the file, and key of the ConfigMap that holds it."""


class PinError(ValueError):
    """The content of the file is no pin."""


@dataclass(frozen=True, slots=True)
class Pin:
    """What the replicas of a revision serve.

    Parameters
    ----------
    version:
        Number of the version.
    digest:
        ``sha256:<hex>`` over its files.
    """

    version: int
    digest: str

    def dump(self) -> str:
        """Return the content of the file: one line of JSON."""
        return json.dumps({"version": self.version, "digest": self.digest}, separators=(",", ":"))


def parse_pin(content: bytes) -> Pin:
    """Read the content of the file.

    Raises
    ------
    PinError
        It is no JSON object with a version and a digest.
    """
    try:
        fields = json.loads(content)
        version, digest = fields["version"], fields["digest"]
    except (ValueError, LookupError, TypeError) as error:
        raise PinError(f"cannot be read: {type(error).__name__}") from error
    sound = isinstance(version, int) and not isinstance(version, bool) and 0 <= version <= MAX_VERSION
    if not sound or not isinstance(digest, str) or not DIGEST.fullmatch(digest):
        raise PinError("names no version and digest")
    return Pin(version, digest)
