"""A small world for the reconciler: an API server in memory, the real cache behind a watch, and a clock."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from serval_operator.api.conditions import Condition, find
from serval_operator.api.naming import Key
from serval_operator.api.resources import (
    CONTROLLER_REVISIONS,
    DEPLOYMENTS,
    MODEL_DEPLOYMENTS,
    NODES,
    PODS,
    SERVICES,
    Resource,
)
from serval_operator.api.snapshots import OwnerView, PodView
from serval_operator.cluster.capacity import Supply
from serval_operator.cluster.priority_reader import PriorityReader
from serval_operator.config import Configuration
from serval_operator.kinds.model_deployment import KIND
from serval_operator.pods.event_reader import EventReader
from serval_operator.reconcile.contest import Contest
from serval_operator.reconcile.context import Context
from serval_operator.reconcile.controller import KindController
from serval_operator.reconcile.reconciler import Reconciler
from serval_operator.runtime.access_review import Access
from serval_operator.runtime.cache import Cache, selector
from serval_operator.runtime.references import References
from support import gen
from support.fakes import Call, FakeKubeApi
from support.watched import OWNERS, WATCHED
from unit.operator.configuration import CONFIGURATION

PLACE = (gen.NAMESPACE, gen.MODEL)
KEY = Key("ModelDeployment", *PLACE)
OWNED = (DEPLOYMENTS, SERVICES, CONTROLLER_REVISIONS)
Event = tuple[str, str]
MOST_PAUSES = 10
"""After so many attempts a pod that does not answer is not asked any more in a test."""


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
    configuration:
        What the next reconciler is configured with.
    offered:
        What there is of nodes and devices, but for the nodes themselves: those come from the cache.
    asked:
        Each question for capacity: for ``nodes``, for ``holds`` too, or for those ``fresh``; and which pods
        wait.
    pages:
        Metrics of pods, by address.
    probed:
        Address and port of each pod that was asked for its metrics.
    woken:
        Keys that the operator let look again by itself.
    pauses:
        Seconds between attempts to ask pods.
    contest:
        What the next reconciler knows of objects that ask for devices. It hears of others by `touch` alone.
    """

    def __init__(self, **spec: Any) -> None:
        self.api = FakeKubeApi()
        self.cache = Cache(OWNERS)
        self.events: list[Event] = []
        self.states: list[str | None] = []
        self.became_ready: list[dict[str, float]] = []
        self.seconds = 60.0
        self.deaf = False
        self.configuration: Configuration = CONFIGURATION
        self.offered = Supply(nodes=(), holds=())
        self.asked: list[tuple[str, ...]] = []
        self.pages: dict[str, str] = {}
        self.probed: list[tuple[str, int]] = []
        self.woken: list[Key] = []
        self.pauses: list[float] = []
        self.api.on_event = self._watch
        self.api.put(MODEL_DEPLOYMENTS, gen.model(**spec))
        self.reconciler = self.restarted()

    def restarted(self) -> Reconciler:
        """A reconciler that remembers nothing; the next `reconcile` uses it."""
        self.contest = Contest(
            self.cache,
            {KEY.kind: KIND.claim},
            self.configuration,
            PriorityReader(self.api, lambda: Access(priority_classes=True), lambda: self.seconds),
            self.woken.append,
            lambda: gen.moment(self.seconds),
        )
        context = Context(
            configuration=self.configuration,
            api=self.api,
            cache=self.cache,
            meter=self,
            recorder=self,
            supplier=self,
            events=EventReader(self.api, lambda: gen.moment(self.seconds)),
            prober=self,
            references=References(),
            contest=self.contest,
            now=lambda: gen.moment(self.seconds),
            clock=lambda: self.seconds,
            sleep=self.pause,
            wake=self.woken.append,
        )
        self.reconciler = Reconciler(self.cache, {KEY.kind: KindController(KIND, context)})
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
        self.api.edit(MODEL_DEPLOYMENTS, *PLACE, lambda obj: obj["spec"].update(fields), manager="kubectl")

    def put_pod(self, name: str, *options: gen.Option, revision: str = "", created: float = 0.0) -> None:
        """A pod is in this state, of the revision that the Deployment carries unless another one is named."""
        pod = gen.pod(name, *options, revision=revision or self.carried, created=created)
        self.api.put(PODS, pod, "kubelet")

    def put_node(self, name: str, **allocatable: str | int) -> None:
        """A node is there and well; what it offers by keyword, as ``gpu`` of nvidia.com."""
        amounts = {f"nvidia.com/{kind}": str(count) for kind, count in allocatable.items()}
        node = {
            "metadata": {"name": name, "labels": {"pool": "gpu", "zone": "a"}},
            "spec": {},
            "status": {
                "allocatable": amounts,
                "capacity": amounts,
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }
        self.api.put(NODES, node, "kubelet")

    def collect_garbage(self) -> None:
        """The children of ModelDeployments that are gone go too."""
        uids = {one["metadata"]["uid"] for one in self.api.objects(MODEL_DEPLOYMENTS)}
        for resource in OWNED:
            for obj in self.api.objects(resource):
                owners = obj["metadata"].get("ownerReferences", ())
                if owners and owners[0]["uid"] not in uids:
                    self.api.remove(resource, gen.NAMESPACE, obj["metadata"]["name"])

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
    def stored_deployment(self) -> gen.Object:
        """The Deployment, which must be there."""
        return self.stored(DEPLOYMENTS)

    @property
    def carried(self) -> str:
        """Revision that the Deployment carries."""
        labels = self.stored(DEPLOYMENTS)["spec"]["template"]["metadata"]["labels"]
        return str(labels["serval.dev/revision"])

    @property
    def revisions(self) -> Mapping[str, gen.Object]:
        """The kept revisions by key, the oldest first."""
        listed = self.api.objects(CONTROLLER_REVISIONS)
        by_number = sorted(listed, key=lambda one: int(one["revision"]))
        return {one["metadata"]["labels"]["serval.dev/revision"]: one for one in by_number}

    @property
    def status(self) -> gen.Object:
        """The ModelDeployment's stored status."""
        status: gen.Object = self.stored(MODEL_DEPLOYMENTS)["status"]
        return status

    def told(self, kind: str = "Ready") -> tuple[str, str, str]:
        """Status, reason and message of a stored condition."""
        found = find(self.status["conditions"], kind)
        return (found["status"], found["reason"], found["message"])

    # --- Supplier -------------------------------------------------------------------------------------

    async def supply(
        self, resource_name: str, *, with_holds: bool, waiting: Sequence[PodView] = (), fresh: bool = False
    ) -> Supply:
        """Say what there is of nodes and devices."""
        assert resource_name or not with_holds
        kind = "fresh" if fresh else "holds" if with_holds else "nodes"
        self.asked.append((kind, *(pod.name for pod in waiting)))
        found = replace(self.offered, nodes=None if self.offered.nodes is None else self.cache.nodes())
        return found if with_holds else replace(found, holds=None)

    # --- Prober ---------------------------------------------------------------------------------------

    async def metrics(self, ip: str, port: int) -> str | None:
        """Give a pod's page of metrics, if there is one."""
        self.probed.append((ip, port))
        return self.pages.get(ip)

    async def progress(self, ip: str, port: int) -> str | None:
        """Give no progress page: ModelDeployments have no Jobs."""
        raise AssertionError(f"{ip}:{port}")

    async def pause(self, seconds: float) -> None:
        """Let no time pass, up to the first pause that is long."""
        self.pauses.append(seconds)
        await asyncio.sleep(0)
        if len(self.pauses) >= MOST_PAUSES:
            await asyncio.Event().wait()

    # --- Recorder and Meter ---------------------------------------------------------------------------

    async def event(self, model: OwnerView, kind: str, reason: str, message: str) -> None:
        """Take an event; what it says stands in the status by then."""
        assert model.name == gen.MODEL
        told = {(one["reason"], one["message"]) for one in self.status.get("conditions", ())}
        assert (reason, message) in told or reason in ("Recovered", "StatusRefused")
        self.events.append((kind, reason))

    def conditions(self, key: Key, conditions: Sequence[Condition]) -> None:
        """Take the reason of `Ready`; None for an object that is gone."""
        assert key == KEY
        self.states.append(next((one.reason for one in conditions if one.type == "Ready"), None))

    def pod_ready(self, kind: str, seconds_by_phase: dict[str, float]) -> None:
        """Take the phases."""
        assert kind == "ModelDeployment"
        self.became_ready.append(seconds_by_phase)

    def _watch(self, resource: Resource, kind: str, obj: gen.Object) -> None:
        if self.deaf or resource not in WATCHED:
            return
        labels = obj["metadata"].get("labels") or {}
        wanted = [one.partition("=") for one in selector(resource).split(",") if one]
        if all(labels.get(name) == value for name, _, value in wanted):
            self.cache.store(resource).observe(kind, obj)


async def roll(world: World, priority: str) -> str:
    """Roll to another revision, all the way; its key."""
    world.edit_spec(scheduling={"priorityClassName": priority})
    await world.reconcile()
    for name in [one["metadata"]["name"] for one in world.api.objects(PODS)]:
        world.api.remove(PODS, gen.NAMESPACE, name)
    world.put_pod(f"digits-{priority}", gen.ready())
    await world.reconcile()
    assert world.told()[0] == "True"
    return world.carried


async def served() -> World:
    """A ModelDeployment that serves, and would go back."""
    world = World(rollout={"onFailure": "Revert"})
    await world.reconcile()
    world.put_pod("digits-old", gen.ready())
    await world.reconcile()
    return world
