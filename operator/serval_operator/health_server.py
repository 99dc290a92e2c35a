"""HTTP server of the kubelet's probes and of Prometheus.

It answers from memory, never from the API server: a probe that asks that one restarts all operators exactly
when it is in trouble.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aiohttp import web

HEALTHY = "ok"
METRICS_TYPE = "text/plain; version=1.0.0; charset=utf-8"
CLOSE_SECONDS = 1.0
"""How long open connections may last once the server is told to stop."""

Check = Callable[[], str | None]
"""Gives what is wrong, or None."""


class ProbeServer:
    """Serves /healthz, /readyz and /metrics.

    Parameters
    ----------
    live, ready:
        Checks; one that finds something wrong makes the answer 503 with what it found.
    metrics:
        Gives the metrics as text.
    remark:
        Gives what is worth saying though nothing is wrong; empty for nothing. Part of the answer "ready".
    """

    def __init__(
        self,
        live: Sequence[Check],
        ready: Sequence[Check],
        metrics: Callable[[], bytes],
        remark: Callable[[], str] = lambda: "",
    ) -> None:
        self._live = tuple(live)
        self._ready = (*live, *ready)
        self._metrics = metrics
        self._remark = remark
        application = web.Application()
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/readyz", self._readyz)
        application.router.add_get("/metrics", self._scrape)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=CLOSE_SECONDS)

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port.

        Parameters
        ----------
        host:
            Address; empty for all.
        port:
            0 lets the system choose.
        """
        await self._runner.setup()
        await web.TCPSite(self._runner, host or None, port).start()
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Close the listening socket and the connections."""
        await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        return _answer(self._live)

    async def _readyz(self, _: web.Request) -> web.Response:
        return _answer(self._ready, self._remark())

    async def _scrape(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics(), headers={"Content-Type": METRICS_TYPE})


def _answer(checks: Sequence[Check], remark: str = "") -> web.Response:
    wrong = [finding for check in checks if (finding := check())]
    if wrong:
        return web.Response(status=503, text="; ".join(wrong))
    return web.Response(text=f"{HEALTHY}: {remark}" if remark else HEALTHY)
