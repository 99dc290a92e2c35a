"""A small world for the reconciler: an API server in memory, the real cache behind a watch, and a clock."""

from __future__ import annotations

from typing import Any

from serval_operator.api.conditions import find
from serval_operator.api.views import Key, ModelView
from serval_operator.kube.cache import SELECTORS, Cache
from serval_operator.kube.protocol import DEPLOYMENTS, MODEL_DEPLOYMENTS, PODS, Resource
from serval_operator.reconcile.gather import Gatherer
from serval_operator.reconcile.model import ModelReconciler
from support import gen
from support.fakes import Call, FakeKubeApi
from unit.operator.configuration import CONFIGURATION

KEY: Key = (gen.NAMESPACE, gen.MODEL)
Event = tuple[str, str]


class World:
    """One ModelDeployment, and what happens to it.

    Attributes
    ----------
    events:
        Kind and reason of each event that was posted.
    states:
        Each `Ready` reason that the meter got.
    became_ready:
        Phases of each pod that the meter got.
    seconds:
        The time, in seconds after the start.
    deaf:
        Whether the watch has stopped.
    """

    def __init__(self, **spec: Any) -> None:
        self.api = FakeKubeApi()
        self.cache = Cache()
        self.events: list[Event] = []
        self.states: list[str | None] = []
        self.became_ready: list[dict[str, float]] = []
        self.seconds = 60.0
        self.deaf = False
        self.api.on_event = self._watch
        self.api.put(MODEL_DEPLOYMENTS, gen.model(**spec))
        self.reconciler = self.restarted()

    def restarted(self) -> ModelReconciler:
        """A reconciler that remembers nothing; the next `reconcile` uses it."""
        gatherer = Gatherer(self.api, self.cache, lambda: gen.moment(self.seconds))
        self.reconciler = ModelReconciler(self.api, gatherer, self.cache, CONFIGURATION, self, self)
        return self.reconciler

    async def reconcile(self) -> float | None:
        """Reconcile the ModelDeployment."""
        return await self.reconciler.reconcile(KEY)

    async def calls(self) -> list[tuple[str, str, str]]:
        """Verb, kind and name of the calls of one reconcile."""
        before = len(self.api.calls)
        await self.reconcile()
        return [(one.verb, one.resource.kind, one.name) for one in self.api.calls[before:]]

    # --- what others do -------------------------------------------------------------------------------

    def edit_spec(self, **fields: Any) -> None:
        """The user changes fields of the spec."""
        self.api.edit(MODEL_DEPLOYMENTS, *KEY, lambda obj: obj["spec"].update(fields), manager="kubectl")

    def put_pod(self, name: str, *options: gen.Option) -> None:
        """A pod of the newest revision is in this state."""
        labels = self.stored(DEPLOYMENTS)["spec"]["template"]["metadata"]["labels"]
        self.api.put(PODS, gen.pod(name, *options, revision=labels["serval.dev/revision"]), "kubelet")

    def fail(self, error: Exception, *, verb: str = "apply", kind: str = "", name: str = "") -> None:
        """Calls of this form raise the error from now on."""

        def check(call: Call) -> None:
            if call.verb == verb and kind in ("", call.resource.kind) and name in ("", call.name):
                raise error

        self.api.on_call = check

    def heal(self) -> None:
        """Calls succeed again."""
        self.api.on_call = lambda _: None

    # --- what came of it ------------------------------------------------------------------------------

    def stored(self, resource: Resource, name: str = gen.MODEL) -> gen.Object:
        """An object that must be there."""
        found = self.api.stored(resource, gen.NAMESPACE, name)
        assert found is not None, f"no {resource.kind} {name}"
        return found

    @property
    def status(self) -> gen.Object:
        """The ModelDeployment's stored status."""
        status: gen.Object = self.stored(MODEL_DEPLOYMENTS)["status"]
        return status

    def told(self, kind: str = "Ready") -> tuple[str, str, str]:
        """Status, reason and message of a stored condition."""
        found = find(self.status["conditions"], kind)
        return (found["status"], found["reason"], found["message"])

    # --- Recorder and Meter ---------------------------------------------------------------------------

    async def event(self, model: ModelView, kind: str, reason: str, message: str) -> None:
        """Take an event; what it says stands in the status by then."""
        assert model.name == gen.MODEL
        assert (reason, message) == self.told()[1:] or reason == "Recovered"
        self.events.append((kind, reason))

    def model_state(self, key: Key, reason: str | None) -> None:
        """Take the state."""
        assert key == KEY
        self.states.append(reason)

    def pod_ready(self, seconds_by_phase: dict[str, float]) -> None:
        """Take the phases."""
        self.became_ready.append(seconds_by_phase)

    def _watch(self, resource: Resource, kind: str, obj: gen.Object) -> None:
        if self.deaf or resource not in SELECTORS:
            return
        labels = obj["metadata"].get("labels") or {}
        wanted = [one.partition("=") for one in SELECTORS[resource].split(",") if one]
        if all(labels.get(name) == value for name, _, value in wanted):
            self.cache.store(resource).observe(kind, obj)
