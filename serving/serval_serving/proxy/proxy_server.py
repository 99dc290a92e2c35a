"""The proxy from flags to a running server, and from SIGTERM to its end."""

from __future__ import annotations

import logging
import threading

from serval_serving.proxy.grpc_proxy import GrpcProxy
from serval_serving.proxy.proxy_app import ProxyApp
from serval_serving.proxy.remote_engine import RemoteInference
from serval_serving.proxy.request_rewriter import RequestRewriter
from serval_serving.proxy.signature_cache import SignatureCache
from serval_serving.proxy.upstream import Upstream
from serval_serving.proxy.upstream_health import UpstreamHealth
from serval_serving.server.keys import Keys
from serval_serving.server.memory import Trimmer
from serval_serving.server.pipeline import Pipeline
from serval_serving.server.ports import Ports, receipts
from serval_serving.server.sampling import sampler_of
from serval_serving.server.settings import Settings
from serval_serving.server.stop_signal import wait_for

THREADS = 64
"""Calls that pass through at once, for each protocol. Each waits in a thread for the upstream server, which
costs no CPU; how many of them run is that server's affair."""

_log = logging.getLogger(__name__)


class ProxyServer:
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
        self._health = health = UpstreamHealth(upstream, name, self._report)
        signatures = SignatureCache(upstream, health)
        inference = RemoteInference(
            name, upstream, health, signatures, settings.max_concurrent_requests, receipts(settings, 0)
        )
        self._trimmer = Trimmer(inference.metrics.in_flight)
        self._sampler = sampler_of(settings, inference.metrics)
        if self._sampler is not None:
            inference.use_samples(self._sampler.take_run)
        keys = Keys(settings.auth_keys) if settings.auth_keys else None
        pipeline = Pipeline(inference, keys)
        self._ports = Ports(
            settings,
            THREADS,
            0,
            [
                GrpcProxy(
                    upstream,
                    RequestRewriter(name, signatures),
                    pipeline,
                    self._sampler,
                    reloads=settings.enable_config_reload,
                )
            ],
            pipeline,
            lambda options, pool: ProxyApp(
                inference, upstream, settings.upstream_rest, pipeline, options, pool
            ),
        )

    def stop(self) -> None:
        """Ask `run` to end. May be called from a signal handler."""
        self._stopped.set()

    def run(self) -> None:
        """Wait for the upstream server to serve the model, open the ports, serve until stopped, and drain.

        Raises
        ------
        StatusError
            A port cannot be had.
        """
        _log.info("waiting for the server behind at %s", self._upstream.address)
        if self._health.wait(self._stopped):
            if self._sampler is not None:
                self._sampler.start()
            self._ports.open()
            self._health.start()
            self._trimmer.start()
            wait_for(self._stopped)
            self._trimmer.stop()
            seconds = self._ports.drain()
            self._health.stop()
            if self._sampler is not None:
                self._sampler.stop()
            _log.info("drained seconds=%.3f", seconds)
        self._upstream.close()

    def _report(self, serving: bool) -> None:
        """Let gRPC's health checks say what the upstream server says of the model."""
        self._ports.report(serving=serving)
