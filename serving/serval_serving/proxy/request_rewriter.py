"""Reads what the proxy must know of a request, and adds what the upstream server needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from serval_serving.engines.base import DEFAULT_SIGNATURE
from serval_serving.proxy.message_split import (
    INPUTS,
    OUTPUT_FILTER,
    UNREADABLE,
    Part,
    read,
    spec_of,
    with_name,
)
from serval_serving.proxy.signature_cache import SignatureCache
from serval_serving.proxy.tensor_names import names_tensors, rename
from serval_serving.server.predict import read_target
from serval_serving.wire import messages, rpc
from serval_serving.wire.status import StatusError

_PREDICT: Final = rpc.PREDICT.path
_FILLED: Final = frozenset({_PREDICT, rpc.CLASSIFY.path, rpc.REGRESS.path})
"""Calls that need not name their model, as with our own server."""
_READ: Final = _FILLED | {rpc.GET_MODEL_METADATA.path}
"""These, and the one that need not name it in a model spec, but must have one."""


class Request(NamedTuple):
    """A request as it goes to the upstream server.

    Attributes
    ----------
    model:
        The model's name; the proxy's own where a request is for none, or does not say.
    data:
        The message.
    outputs:
        Names that the outputs of the reply must have, by alias; those that are not here keep theirs.
    """

    model: str
    data: bytes
    outputs: Mapping[str, Sequence[str]] = {}


class RequestRewriter:
    """Reads requests and adds to them.

    Parameters
    ----------
    name:
        The model that requests without a name are for.
    signatures:
        Know which tensors have which aliases.
    """

    def __init__(self, name: str, signatures: SignatureCache) -> None:
        self.name = name
        self._signatures = signatures

    def prepared(self, path: str, data: bytes, seconds: float | None) -> Request:
        """Make ready what came for a method; what cannot be read goes on as it is, to be refused there.

        `seconds` is the time that the caller has left; None for any.
        """
        try:
            if path == _PREDICT:
                return self._predict(data, seconds)
            if path in _READ:
                spec = spec_of(data, read(data))
                fills = path in _FILLED or spec is not None
                return self._named(data, spec) if fills else Request(self.name, data)
        except UNREADABLE:
            pass
        return Request(self.name, data)

    def _predict(self, data: bytes, seconds: float | None) -> Request:
        """Make a request of Predict ready."""
        parts = read(data, entries=INPUTS, texts=OUTPUT_FILTER)
        spec = spec_of(data, parts)
        if not names_tensors(parts):
            return self._named(data, spec)
        return self._by_alias(data, parts, spec or messages.ModelSpec(), seconds)

    def _named(self, data: bytes, spec: messages.ModelSpec | None) -> Request:
        """Name the model, where the request does not."""
        if spec is not None and spec.name:
            return Request(spec.name, data)
        return Request(self.name, with_name(data, self.name))

    def _by_alias(
        self, data: bytes, parts: Sequence[Part], spec: messages.ModelSpec, seconds: float | None
    ) -> Request:
        """Put aliases in the place of tensors' names, where the signature can be found."""
        named = self._named(data, spec)
        wanted = spec.signature_name or DEFAULT_SIGNATURE
        try:
            found = self._signatures.find(replace(read_target(spec), name=named.model), seconds)
        except StatusError:
            return named
        signature = found.signatures.get(wanted)
        if signature is None:
            return named
        renamed = rename(data, parts, signature)
        return self._named(renamed.request, spec)._replace(outputs=renamed.outputs)
