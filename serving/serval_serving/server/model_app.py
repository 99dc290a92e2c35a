"""The HTTP application of a server: the REST API, /score and metrics of an `Inference`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from functools import partial

from aiohttp import web

from serval_serving.server import rest_api, rest_paths, score
from serval_serving.server.http_app import LOOK, HttpApp, HttpOptions, Route, Work, replied, target_of
from serval_serving.server.inference import Deadline, Inference, Target
from serval_serving.server.metadata import SIGNATURE_DEF, model_metadata, model_status
from serval_serving.server.metrics import CLASSIFY, PREDICT, REGRESS, REST
from serval_serving.server.pipeline import Call, Endpoint, Pipeline

Predicts = Callable[[Inference, Target, bytes, Deadline], bytes]
Looks = Callable[[Target], bytes]


class ModelApp(HttpApp):
    """The REST API, /score and metrics.

    Parameters
    ----------
    inference:
        What answers.
    pipeline, options, pool:
        As for `HttpApp`.
    """

    def __init__(
        self, inference: Inference, pipeline: Pipeline, options: HttpOptions, pool: Executor
    ) -> None:
        super().__init__(pipeline, options, pool)
        self._inference = inference

    def scorer(self) -> tuple[str, Work]:
        """Name the model that /score is for, and give what scores a body."""

        def work(body: bytes, deadline: Deadline) -> bytes:
            return score.score(self._inference, self._options.scoring_output, body, deadline)

        return self._inference.model_name(Target(None)), work

    async def page(self) -> str:
        """Write the metrics."""
        return self._inference.metrics.page()

    def api(self) -> Sequence[Route]:
        """List the routes under /v1/."""
        return (
            Route("POST", rest_paths.PREDICT, Endpoint(PREDICT, REST), self._predicts(rest_api.predict)),
            Route("POST", rest_paths.CLASSIFY, Endpoint(CLASSIFY, REST), self._predicts(rest_api.classify)),
            Route("POST", rest_paths.REGRESS, Endpoint(REGRESS, REST), self._predicts(rest_api.regress)),
            *(
                Route(method, path, LOOK, self._looks(look))
                for path, look in ((rest_paths.STATUS, self.status), (rest_paths.METADATA, self.metadata))
                for method in ("GET", "HEAD")
            ),
        )

    def status(self, target: Target) -> bytes:
        """Write the states of a model's versions.

        Raises
        ------
        StatusError
            As GetModelStatus does.
        """
        return rest_api.write_status(model_status(self._inference, target))

    def metadata(self, target: Target) -> bytes:
        """Write the signatures of a version.

        Raises
        ------
        StatusError
            As GetModelMetadata does.
        """
        return rest_api.write_metadata(model_metadata(self._inference, target, [SIGNATURE_DEF]))

    async def look(self, call: Call, work: Callable[[], bytes]) -> bytes:
        """Answer a question about a model in the loop, since it is cheap: so probes wait for no thread."""
        return call.run(work)

    def _predicts(self, method: Predicts) -> Callable[[web.Request, Call], Awaitable[web.Response]]:
        """Make what answers one method of the API."""

        async def answer(request: web.Request, call: Call) -> web.Response:
            target = target_of(request, call)
            return await self.run(request, call, partial(method, self._inference, target))

        return answer

    def _looks(self, method: Looks) -> Callable[[web.Request, Call], Awaitable[web.Response]]:
        """Make what answers one question about a model."""

        async def answer(request: web.Request, call: Call) -> web.Response:
            target = target_of(request, call)
            return replied(await self.look(call, partial(method, target)), call)

        return answer
