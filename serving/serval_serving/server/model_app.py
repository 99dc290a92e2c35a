"""The HTTP application of a server that has the models itself."""

from __future__ import annotations

from concurrent.futures import Executor

from aiohttp import web

from serval_serving.server import rest_api, rest_paths, score
from serval_serving.server.http_app import HttpApp, HttpOptions, Work, failed, replied
from serval_serving.server.inference import Deadline, Inference, Target
from serval_serving.server.keys import Keys
from serval_serving.server.metrics import REST
from serval_serving.wire.status import StatusError


class ModelApp(HttpApp):
    """The REST API, /score and metrics of the models of this process.

    Parameters
    ----------
    inference:
        What answers.
    options, pool, keys:
        As for `HttpApp`.
    """

    def __init__(
        self, inference: Inference, options: HttpOptions, pool: Executor, keys: Keys | None = None
    ) -> None:
        super().__init__(inference, options, pool, keys)
        self._inference = inference

    def scorer(self) -> tuple[str, Work]:
        """Name the model that /score is for, and give what scores a body."""

        def work(body: bytes, deadline: Deadline) -> bytes:
            return score.score(self._inference, self._options.scoring_output, body, deadline)

        return self._inference.model_name(Target(None)), work

    async def page(self) -> str:
        """Write the metrics."""
        return self._inference.metrics.page()

    async def api(self, request: web.Request) -> web.StreamResponse:
        """Answer the API under /v1/."""
        try:
            call = rest_paths.parse(request.method, request.rel_url.raw_path)
        except StatusError as error:
            return failed(error.code, error.message)
        name = call.target.name or ""

        def work(body: bytes, deadline: Deadline) -> bytes:
            return rest_api.answer(self._inference, call, body, deadline)

        if request.method == "GET":
            return self._look(request, name, work)
        return await self._run(request, name, call.method.capitalize(), REST, work)

    def _look(self, request: web.Request, name: str, work: Work) -> web.Response:
        """Answer a question about a model: cheap, so the loop does it, and probes wait for no thread."""
        started = self._inference.now()
        code, reply = self._attempt(lambda: work(b"", Deadline()))
        self._count_look(request, name, code, started)
        return replied(code, reply)
