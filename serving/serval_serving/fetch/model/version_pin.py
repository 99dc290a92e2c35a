"""Holds every replica to the model that the first one found: the file behind ``--pin-file``."""

from __future__ import annotations

from pathlib import Path

from serval_contract.pin import Pin, PinError, parse_pin
from serval_serving.fetch.errors import FetchError, skewed, unavailable


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
        return parse_pin(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unavailable(f"the pin {path} cannot be read: {type(error).__name__}", again=False) from error
    except PinError as error:
        raise unavailable(f"the pin {path} {error}", again=False) from error


def compare(pin: Pin, digest: str) -> None:
    """Raise ``ModelVersionSkew`` if `digest`, of the files that were found, is not that of the pin."""
    if digest != pin.digest:
        raise skewed(
            f"version {pin.version} has the digest {digest} now; the other replicas serve {pin.digest}."
            " Put those files back, or roll the new ones out to all replicas"
        )


def missed(pin: Pin, error: FetchError) -> FetchError:
    """Return the failure for a pinned version that is gone; `error` tells what was found in its place."""
    return skewed(
        f"the other replicas serve version {pin.version}, which is gone: {error.message}."
        " Put it back, or roll another version out to all replicas"
    )
