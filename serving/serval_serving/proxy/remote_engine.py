"""The engine of the proxy: the upstream server, which it asks to predict by gRPC.

The REST API and `/score` of the server run on it as on any other engine. So they have the same errors, limits
and JSON before every upstream server.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final

import grpc
import numpy as np
from google.protobuf.message import DecodeError

from serval_serving.engines.base import Signature
from serval_serving.models.handle import ServableHandle
from serval_serving.proxy.signature_cache import Described, SignatureCache
from serval_serving.proxy.upstream import Upstream
from serval_serving.proxy.upstream_health import ASK_SECONDS, UpstreamHealth
from serval_serving.server import tracing
from serval_serving.server.inference import Inference, Target
from serval_serving.server.metrics import Metrics
from serval_serving.server.receipts import Receipts
from serval_serving.wire import messages
from serval_serving.wire.errors import TensorError
from serval_serving.wire.predict_codec import read_response, write_request
from serval_serving.wire.status import StatusError
from serval_serving.wire.tensors import to_array

UNREADABLE: Final = "The server behind this front gave no output {output} that can be read."

_SLOTS: Final = threading.Semaphore(1 << 30)
"""The upstream server decides how many predictions run at once."""


class RemoteModel:
    """A version in the upstream server, as a loaded model.

    Parameters
    ----------
    upstream:
        The server.
    name:
        The model.
    described:
        The version.
    newest:
        Looks up the newest version; None if the request names its version, which then must answer.
    """

    runtime = "upstream"
    device = ""
    exclusive = None
    slots = _SLOTS

    def __init__(
        self, upstream: Upstream, name: str, described: Described, newest: Callable[[], Described] | None
    ) -> None:
        self._upstream = upstream
        self._name = name
        self._described = described
        self._newest = newest

    @property
    def signatures(self) -> Mapping[str, Signature]:
        """The signatures by name."""
        return self._described.signatures

    @property
    def signature_defs(self) -> messages.SignatureDefMap:
        """The same as the upstream server sends them."""
        return self._described.definitions

    def check(
        self, signature: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str], timeout: float | None
    ) -> None:
        """Refuse nothing: the upstream server knows the shapes."""

    def run(
        self,
        signature: str,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str],
        timeout: float | None = None,
    ) -> list[np.ndarray]:
        """Run one signature, with the version whose signature the inputs were bound to.

        The newest version may be unloaded before the proxy knows its successor. Then the successor runs; if
        the inputs do not fit it, the upstream server refuses them.

        Raises
        ------
        StatusError
            The answer of the upstream server, UNAVAILABLE if it cannot be reached, or INTERNAL if an output
            cannot be read.
        """
        try:
            return self._run(self._described.version, signature, inputs, outputs, timeout)
        except StatusError as error:
            if self._newest is None or error.code is not grpc.StatusCode.NOT_FOUND:
                raise
        described = self._newest()
        tracing.note(described.version, described.digest)
        return self._run(described.version, signature, inputs, outputs, timeout)

    def close(self) -> None:
        """Free nothing: the upstream server holds the model."""

    def _run(
        self,
        version: int,
        signature: str,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str],
        timeout: float | None,
    ) -> list[np.ndarray]:
        """Run a signature of one version."""
        spec = messages.ModelSpec(name=self._name, signature_name=signature)
        spec.version.value = version
        trace = tracing.current()
        metadata = trace.forwarded() if trace is not None else []
        reply = self._upstream.predict(write_request(spec, inputs, outputs), timeout, metadata)
        try:
            found = read_response(reply)
        except DecodeError:
            found = {}
        arrays = []
        for alias in outputs:
            try:
                given = found[alias]
                arrays.append(given if isinstance(given, np.ndarray) else to_array(given))
            except (KeyError, TensorError) as error:
                raise StatusError(grpc.StatusCode.INTERNAL, UNREADABLE.format(output=alias)) from error
        return arrays


class RemoteInference(Inference):
    """Predicts with the models of the upstream server.

    Parameters
    ----------
    name:
        The model that requests without a name are for.
    upstream:
        The server.
    health:
        Knows the versions of that model.
    signatures:
        Knows what versions take.
    max_concurrent:
        Predictions in progress at once; 0 for no limit.
    receipts:
        The messages that are arriving.
    """

    def __init__(
        self,
        name: str,
        upstream: Upstream,
        health: UpstreamHealth,
        signatures: SignatureCache,
        max_concurrent: int = 0,
        receipts: Receipts | None = None,
    ) -> None:
        super().__init__({}, Metrics(), max_concurrent=max_concurrent, receipts=receipts)
        self._name = name
        self._upstream = upstream
        self._health = health
        self._signatures = signatures

    def _is_model(self, name: str) -> bool:
        """Whether this is the model of the proxy."""
        return name == self._name

    def model_name(self, target: Target) -> str:
        """Return the name of the model that a request is for."""
        return target.name or self._name

    def find(self, target: Target) -> AbstractContextManager[ServableHandle]:
        """Find the version that a request is for. The upstream server may unload it at any time.

        Raises
        ------
        StatusError
            The answer of the upstream server, or UNAVAILABLE if it cannot be reached.
        """
        name = self.model_name(target)
        wanted = Target(name, target.version, target.label)
        described = self._signatures.find(wanted, ASK_SECONDS)

        def newest() -> Described:
            self._health.look()
            return self._signatures.find(wanted, ASK_SECONDS)

        pinned = target.version is not None or target.label
        model = RemoteModel(self._upstream, name, described, None if pinned else newest)
        return nullcontext(ServableHandle(name, described.version, model, digest=described.digest))
