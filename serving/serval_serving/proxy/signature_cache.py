"""The signatures of the upstream server's models; each version is requested once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final, NamedTuple

import grpc
from google.protobuf.message import DecodeError

from serval_serving.engines.base import Signature, signature_of
from serval_serving.proxy.upstream import Upstream
from serval_serving.proxy.upstream_health import UpstreamHealth
from serval_serving.server.inference import Target
from serval_serving.server.metadata import SIGNATURE_DEF
from serval_serving.wire import messages
from serval_serving.wire.errors import TensorError
from serval_serving.wire.status import StatusError

UNREADABLE: Final = "The signatures of {name} cannot be read."

_KEPT: Final = 32


class Described(NamedTuple):
    """A version of a model.

    Attributes
    ----------
    version:
        Its number.
    signatures:
        Its signatures by name.
    definitions:
        The same as the server sends them.
    digest:
        Digest of its files; empty if the server does not say it.
    """

    version: int
    signatures: Mapping[str, Signature]
    definitions: messages.SignatureDefMap
    digest: str = ""


class SignatureCache:
    """Signatures by model and version.

    Parameters
    ----------
    upstream:
        The server that knows them.
    health:
        Knows the newest version of one model, so that requests for it need no question.
    """

    def __init__(self, upstream: Upstream, health: UpstreamHealth) -> None:
        self._upstream = upstream
        self._health = health
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, int], Described] = OrderedDict()

    def find(self, target: Target, seconds: float | None) -> Described:
        """Return the version that a request is for, within so many seconds; None for no limit.

        The server is asked unless the number of the version is known and its signatures are kept.

        Raises
        ------
        StatusError
            The answer of the server, or INTERNAL if it cannot be read.
        """
        name = target.name or ""
        version = target.version
        if version is None and not target.label and name == self._health.model:
            version = self._health.latest
        if version is None:
            return self._ask(target, None, seconds)
        with self._lock:
            kept = self._kept.get((name, version))
        return kept or self._ask(target, version, seconds)

    def _ask(self, target: Target, version: int | None, seconds: float | None) -> Described:
        """Ask the server, and keep the answer."""
        spec = spec_of(target, version)
        reply, digest = self._upstream.metadata(spec, seconds)
        try:
            definitions = messages.SignatureDefMap.FromString(reply.metadata[SIGNATURE_DEF].value)
            found = definitions.signature_def
            signatures = {name: signature_of(name, found[name]) for name in sorted(found)}
        except (DecodeError, TensorError) as error:
            raise StatusError(grpc.StatusCode.INTERNAL, UNREADABLE.format(name=spec.name)) from error
        described = Described(reply.model_spec.version.value, signatures, definitions, digest)
        with self._lock:
            self._kept[spec.name, described.version] = described
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return described


def spec_of(target: Target, version: int | None) -> messages.ModelSpec:
    """Write the model spec for a version by its number, or by what the request says of it."""
    spec = messages.ModelSpec(name=target.name or "")
    if version is not None:
        spec.version.value = version
    elif target.label:
        spec.version_label = target.label
    return spec
