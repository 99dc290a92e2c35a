"""The signatures of the upstream server's models; each version is requested once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

import grpc
from google.protobuf.message import DecodeError

from serval_serving.engines.base import Signature, signature_of
from serval_serving.proxy.upstream import Upstream
from serval_serving.server.metadata import SIGNATURE_DEF
from serval_serving.wire import messages
from serval_serving.wire.errors import TensorError
from serval_serving.wire.status import StatusError

UNREADABLE: Final = "The signatures of {name} cannot be read."

Found = Mapping[str, Signature]
_KEPT: Final = 32


class SignatureCache:
    """SignatureCache by model and version.

    Parameters
    ----------
    upstream:
        The server that knows them.
    """

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, int], Found] = OrderedDict()

    def of(self, spec: messages.ModelSpec, seconds: float | None) -> Found:
        """Give the signatures of a version; they are only remembered where the spec has its number.

        Raises
        ------
        StatusError
            What the server says, or INTERNAL where that cannot be read.
        """
        if not spec.HasField("version"):
            return self._ask(spec, seconds)
        key = (spec.name, spec.version.value)
        with self._lock:
            kept = self._kept.get(key)
        if kept is None:
            kept = self._ask(spec, seconds)
            with self._lock:
                self._kept[key] = kept
                while len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
        return kept

    def _ask(self, spec: messages.ModelSpec, seconds: float | None) -> Found:
        """Ask the server."""
        reply = self._upstream.metadata(spec, seconds)
        try:
            found = messages.SignatureDefMap.FromString(reply.metadata[SIGNATURE_DEF].value).signature_def
            return {name: signature_of(name, found[name]) for name in sorted(found)}
        except (DecodeError, TensorError) as error:
            raise StatusError(grpc.StatusCode.INTERNAL, UNREADABLE.format(name=spec.name)) from error
