"""The front from flags to a running server, and from SIGTERM to its end."""

from __future__ import annotations

import logging
import threading

from serval_serving.front.front_app import FrontApp
from serval_serving.front.relay import Relay
from serval_serving.front.requests import Requests
from serval_serving.front.score import Scorer
from serval_serving.front.signatures import Signatures
from serval_serving.front.upstream import Upstream
from serval_serving.front.watch import Watch
from serval_serving.server.inference import Admission
from serval_serving.server.keys import Keys
from serval_serving.server.metrics import RequestMetrics
from serval_serving.server.pipeline import Pipeline
from serval_serving.server.ports import Ports
from serval_serving.server.settings import Settings

THREADS = 64
"""Calls that pass through at once, for each protocol. Each waits in a thread for the server behind, which
costs no CPU; how many of them run is that server's affair."""

_log = logging.getLogger(__name__)


class FrontServer:
    """Stands before another predict server.

    Parameters
    ----------
    settings:
        What the flags say; `upstream` is set.

    Raises
    ------
    FlagError
        A configuration file, a key or a certificate cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        name = settings.model_name
        self._stopped = threading.Event()
        self._upstream = upstream = Upstream(settings.upstream)
        self._watch = watch = Watch(upstream, name, self._report)
        signatures = Signatures(upstream)
        metrics = RequestMetrics()
        keys = Keys(settings.auth_keys) if settings.auth_keys else None
        pipeline = Pipeline(Admission(metrics, settings.max_concurrent_requests), keys)
        scorer = Scorer(upstream, name, watch, signatures, settings.scoring_output)
        self._ports = Ports(
            settings,
            THREADS,
            [Relay(upstream, Requests(name, watch, signatures), pipeline)],
            lambda options, pool: FrontApp(
                upstream, settings.upstream_rest, scorer, metrics, pipeline, options, pool
            ),
        )

    def stop(self) -> None:
        """Ask `run` to end. May be called from a signal handler."""
        self._stopped.set()

    def run(self) -> None:
        """Wait for the server behind to serve the model, open the ports, serve until stopped, and drain.

        Raises
        ------
        StatusError
            A port cannot be had.
        """
        _log.info("waiting for the server behind at %s", self._upstream.address)
        if self._watch.wait(self._stopped):
            self._ports.open()
            self._watch.start()
            self._stopped.wait()
            seconds = self._ports.drain()
            self._watch.stop()
            _log.info("drained seconds=%.3f", seconds)
        self._upstream.close()

    def _report(self, serving: bool) -> None:
        """Let gRPC's health checks say what the server behind says of the model."""
        self._ports.report(serving=serving)
