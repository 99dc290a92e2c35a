"""`/score` before another server: raw bytes in, Predict upstream, the bare JSON array of one output out."""

from __future__ import annotations

from typing import Final

import grpc
import numpy as np

from serval_serving.engines.base import DEFAULT_SIGNATURE
from serval_serving.proxy.signature_cache import SignatureCache
from serval_serving.proxy.upstream import Upstream
from serval_serving.proxy.upstream_health import UpstreamHealth
from serval_serving.server.binding import find_signature
from serval_serving.server.score import asked, written
from serval_serving.wire import messages
from serval_serving.wire.errors import TensorError
from serval_serving.wire.status import StatusError
from serval_serving.wire.tensors import to_array, write_array

NO_OUTPUT: Final = "The server behind this front gave no output {output} that can be read."


class UpstreamScorer:
    """Scores bodies with the newest version of one model.

    Parameters
    ----------
    upstream:
        The server that has it.
    name:
        The model.
    health:
        Knows its versions.
    signatures:
        Know what they take.
    output:
        The alias of the output to answer; empty for the default.
    """

    def __init__(
        self,
        upstream: Upstream,
        name: str,
        health: UpstreamHealth,
        signatures: SignatureCache,
        output: str = "",
    ) -> None:
        self.name = name
        self._upstream = upstream
        self._health = health
        self._signatures = signatures
        self._output = output

    def score(self, body: bytes, seconds: float | None) -> bytes:
        """Score one body within so many seconds, None for any; the answer is JSON.

        Raises
        ------
        StatusError
            As `serval_serving.server.score.score`; UNAVAILABLE where no version serves.
        """
        version = self._newest()
        try:
            return self._score(version, body, seconds)
        except StatusError as error:
            if error.code is not grpc.StatusCode.NOT_FOUND:
                raise
        # The version went since the server was last asked, as it does when a newer one took over.
        self._health.look()
        return self._score(self._newest(), body, seconds)

    def _newest(self) -> int:
        """Say which version to score with."""
        version = self._health.latest
        if version is None:
            raise StatusError(grpc.StatusCode.UNAVAILABLE, self._health.why)
        return version

    def _score(self, version: int, body: bytes, seconds: float | None) -> bytes:
        """Score with one version, so that its signature is the right one."""
        request = messages.PredictRequest(model_spec=messages.ModelSpec(name=self.name))
        request.model_spec.version.value = version
        signature = find_signature(self._signatures.of(request.model_spec, seconds), DEFAULT_SIGNATURE)
        alias, array, wanted = asked(signature, self._output, body)
        write_array(request.inputs[alias], array, typed=False)
        request.output_filter.append(wanted)
        reply = self._upstream.predict(request, seconds)
        return written(wanted, _output(reply, wanted))


def _output(reply: messages.PredictResponse, wanted: str) -> np.ndarray:
    """Read the one output of a reply."""
    try:
        return to_array(reply.outputs[wanted])
    except TensorError as error:
        raise StatusError(grpc.StatusCode.INTERNAL, NO_OUTPUT.format(output=wanted)) from error
