"""Holds every replica to the model that the first one found: the file behind ``--pin-file``."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from serval_serving.fetch.errors import FetchError, skewed, unavailable
from serval_serving.fetch.versions import MAX_VERSION

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Pin:
    """What the other replicas serve.

    Attributes
    ----------
    version:
        Its number.
    digest:
        ``sha256:<hex>`` over its files.
    """

    version: int
    digest: str

    def compare(self, digest: str) -> None:
        """Raise ``ModelVersionSkew`` if `digest`, of the files that were found, is another."""
        if digest != self.digest:
            raise skewed(
                f"version {self.version} has the digest {digest} now; the other replicas serve {self.digest}."
                " Put those files back, or roll the new ones out to all replicas"
            )

    def missed(self, error: FetchError) -> FetchError:
        """Say that the version is gone; `error` tells what was found in its place."""
        return skewed(
            f"the other replicas serve version {self.version}, which is gone: {error.message}."
            " Put it back, or roll another version out to all replicas"
        )


def read_pin(path: Path | None) -> Pin | None:
    """Read the pin; None where there is none yet.

    Raises
    ------
    FetchError
        If there is a file that holds no pin.
    """
    if path is None:
        return None
    try:
        content = json.loads(path.read_bytes())
        version, digest = content["version"], content["digest"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise unavailable(f"the pin {path} cannot be read: {type(error).__name__}", again=False) from error
    sound = isinstance(version, int) and not isinstance(version, bool) and 0 <= version <= MAX_VERSION
    if not sound or not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise unavailable(f"the pin {path} names no version and digest", again=False)
    return Pin(version, digest)
