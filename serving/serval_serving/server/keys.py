"""Keys that callers must show, from a file or from the folder of a mounted Secret."""

from __future__ import annotations

import hmac
import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import grpc

from serval_serving.server.flags import FlagError
from serval_serving.wire.status import StatusError

HEADER: Final = "authorization"
MISSING: Final = "This service wants a key: send it as 'authorization: Bearer <key>'."
WRONG: Final = "The key is not one of this service's."

_SCHEME: Final = "bearer"
_LOOK_SECONDS: Final = 1.0
_log = logging.getLogger(__name__)


class Keys:
    """The keys. They are read again when they changed, so that a Secret can be rotated.

    Parameters
    ----------
    path:
        A file with one key a line, or a folder of files with one key each.
    clock:
        Monotonic seconds.

    Raises
    ------
    FlagError
        There is no key.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        try:
            self._keys = _read(path)
        except (OSError, UnicodeDecodeError) as error:
            raise FlagError(f"--auth_keys cannot be read: {error}") from error
        if not self._keys:
            raise FlagError(f"--auth_keys: {path} holds no key")
        self._looked = clock()

    def check(self, authorization: str | None) -> str:
        """Check what a caller shows: `Bearer <key>`, in any letter case, or the key alone.

        Returns
        -------
        The name of the key: that of its file, and the number of its line if that is not the first.

        Raises
        ------
        StatusError
            UNAUTHENTICATED: it is none of the keys.
        """
        # HTTP headers may hold any bytes, which stand as surrogates here.
        shown = _key(authorization or "").encode("utf-8", "surrogateescape")
        if not shown:
            raise StatusError(grpc.StatusCode.UNAUTHENTICATED, MISSING)
        # All are compared, each in constant time, so that the time says nothing.
        names = [name for key, name in self._current().items() if hmac.compare_digest(shown, key)]
        if not names:
            raise StatusError(grpc.StatusCode.UNAUTHENTICATED, WRONG)
        return names[0]

    def _current(self) -> Mapping[bytes, str]:
        """Give the keys, and read them again once in a while; what cannot be read leaves them as they were.

        Files that hold no key refuse all: who empties them wants the old keys to be of no use.
        """
        with self._lock:
            if self._clock() - self._looked < _LOOK_SECONDS:
                return self._keys
            self._looked = self._clock()
            try:
                found = _read(self._path)
            except (OSError, UnicodeDecodeError) as error:
                _log.warning("the keys cannot be read, the old ones stay: %s", error)
                return self._keys
            if found != self._keys:
                _log.log(logging.INFO if found else logging.ERROR, "the keys changed: %d", len(found))
                self._keys = found
            return self._keys


def _key(authorization: str) -> str:
    """Take the key out of a header's value."""
    scheme, _, rest = authorization.strip().partition(" ")
    return rest.strip() if scheme.lower() == _SCHEME else authorization.strip()


def _read(path: Path) -> Mapping[bytes, str]:
    """Read the names of all keys, by key.

    What begins with two dots in a mounted Secret is the machinery behind its links. While that changes, a
    link may lead nowhere for a moment: then reading it fails, so that its key does not seem to be gone.

    Raises
    ------
    OSError
        A file cannot be read, or there is nothing at the path.
    UnicodeDecodeError
        A file is no text.
    """
    files = [file for file in path.iterdir() if not file.name.startswith("..")] if path.is_dir() else [path]
    keys: dict[bytes, str] = {}
    for file in sorted(file for file in files if file.is_file() or not file.exists()):
        lines = file.read_text(encoding="utf-8").splitlines()
        for number, key in enumerate(filter(None, (line.strip() for line in lines)), start=1):
            keys.setdefault(key.encode(), file.name if number == 1 else f"{file.name}:{number}")
    return keys
