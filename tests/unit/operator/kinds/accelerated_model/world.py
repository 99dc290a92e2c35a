"""One AcceleratedModel in a small world: what its pure plan asks for is done at once, and its status kept."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from serval_contract.progress import Progress
from serval_contract.report import FetchReport
from serval_contract.stage_report import StageReport
from serval_operator.api.capabilities import CAPABILITIES
from serval_operator.api.conditions import find
from serval_operator.api.device_holders import PodHold
from serval_operator.api.job_snapshots import parse_job
from serval_operator.api.judgement import Judgement
from serval_operator.api.nodes import NodeView, parse_node
from serval_operator.api.resources import CONTROLLER_REVISIONS, DEPLOYMENTS, JOBS, SERVICES
from serval_operator.api.rivals import Priorities, Rival, Rivals
from serval_operator.api.snapshots import (
    OwnerView,
    parse_deployment,
    parse_owner,
    parse_pod,
    parse_revision,
    parse_service,
)
from serval_operator.cluster.capacity import Supply
from serval_operator.cluster.questions import (
    AccountQuestion,
    Answers,
    CapacityQuestion,
    RivalsQuestion,
    Unanswered,
)
from serval_operator.config import Configuration, parse_configuration
from serval_operator.kinds.accelerated_model import KIND
from serval_operator.pods.device_report import Answer
from serval_operator.pods.observation import Observed
from serval_operator.reconcile.plan import Outcome, Plan, Situation
from serval_operator.turns.observing import see_rival
from support import gen
from unit.operator.configuration import DOCUMENT

NAME = "eyes"
UID = "0b5e2a53-5d36-4a3e-9a0c-00000000000a"
RESOURCE = "emulated.serval.dev/u250"
SERVER = "registry.example/serval-server:emulator"
FEATURIZER = {"featurizer": "ResNet50", "model": {"uri": "https://models.example.com/resnet50.tar.gz"}}
ARTIFACT = "registry.example/serval/vision/eyes@sha256:" + "c" * 64
CONVERSION = {
    "sourceDigest": "sha256:" + "b" * 64,
    "converter": "serval 0.2.0, tf2onnx 1.17.0",
    "quantization": "Int8",
    "host": "Images",
    "weights": "User",
    "bytes": {"device.onnx": 25_000_000, "classifier.onnx": 8_000_000},
    "seconds": {"load": 11.5, "quantize": 20},
    "peakBytes": {"load": 1_125_000_000, "quantize": 690_000_000},
    "images": "the photos of scikit-image",
    "calibration": {"cosine": 0.995, "largestError": 1.5, "agreement": 1.0},
    "heldOut": {"cosine": 0.993, "largestError": 1.75, "agreement": 0.95},
}
"""What the stage `convert` reports."""
MADE = {
    "artifact": ARTIFACT,
    "bytes": 26_000_000,
    "sent": 26_000_000,
    "cached": False,
    "conversion": CONVERSION,
}
"""The results of all stages."""

FETCHED = FetchReport(version=1, digest=gen.DIGEST, size=1000, seconds=1.0).dump()
"""What the fetcher says that brought the model."""


def node(**allocatable: str) -> NodeView:
    """A node that is well and has one emulated device."""
    amounts = {RESOURCE: "1", **allocatable}
    return parse_node(
        {
            "metadata": {"name": gen.NODE, "labels": {}},
            "spec": {},
            "status": {
                "allocatable": amounts,
                "capacity": amounts,
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }
    )


def document(**changes: Any) -> dict[str, Any]:
    """A configuration with an emulated device and a converter; sections by keyword, None to leave one out."""
    whole = deepcopy(DOCUMENT)
    serval = whole["runtimes"][0]
    serval["capabilities"] = list(CAPABILITIES)
    serval["images"]["u250"] = SERVER
    whole["profiles"].append({"name": "u250", "resourceName": RESOURCE, "engine": "emulator"})
    whole["conversion"] = {
        "image": "registry.example/serval-converter:1",
        "resources": {"requests": {"cpu": "1"}},
        "artifacts": {"repositoryPrefix": "registry.example/serval", "pushSecret": "artifact-push"},
    }
    whole |= changes
    return {name: value for name, value in whole.items() if value is not None}


def configured(**changes: Any) -> Configuration:
    """The same, read."""
    return parse_configuration(document(**changes))


CONFIGURED = configured()


def accelerated(status: Mapping[str, Any] | None = None, generation: int = 1, **spec: Any) -> gen.Object:
    """An AcceleratedModel as stored."""
    return {
        "apiVersion": "serval.dev/v1alpha1",
        "kind": "AcceleratedModel",
        "metadata": {
            "name": NAME,
            "namespace": gen.NAMESPACE,
            "uid": UID,
            "generation": generation,
            "resourceVersion": "100",
            "creationTimestamp": gen.stamp(),
        },
        "spec": {"replicas": 1, **spec},
        "status": dict(status) if status is not None else {"observedGeneration": -1},
    }


class World:
    """What the API server holds.

    Attributes
    ----------
    nodes:
        Nodes that the operator sees.
    accounts:
        ServiceAccounts by name.
    devices:
        What pods said of their devices, by uid.
    holds:
        What pods hold of devices; None while nobody counted.
    rivals:
        Others that ask for devices.
    pages:
        Progress pages by uid of the pod.
    deleted:
        Names of what plans deleted.
    """

    def __init__(self, configuration: Configuration = CONFIGURED, **spec: Any) -> None:
        self.configuration = configuration
        self.spec: dict[str, Any] = spec or dict(FEATURIZER)
        self.generation = 1
        self.seconds = 0.0
        self.status: dict[str, Any] = {"observedGeneration": -1}
        self.jobs: dict[str, gen.Object] = {}
        self.revisions: dict[str, gen.Object] = {}
        self.children: dict[tuple[str, str], gen.Object] = {}
        self.pods: list[gen.Object] = []
        self.nodes: tuple[NodeView, ...] = (node(),)
        self.accounts: dict[str, Mapping[str, Any]] = {}
        self.devices: dict[str, Answer] = {}
        self.holds: tuple[PodHold, ...] | None = ()
        self.rivals: tuple[Rival, ...] = ()
        self.pages: dict[str, Progress] = {}
        self.judgement = Judgement({}, ())
        self.deleted: list[str] = []

    # --- the operator -------------------------------------------------------------------------------------

    @property
    def owner(self) -> OwnerView:
        """The AcceleratedModel."""
        return parse_owner(accelerated(self.status, self.generation, **self.spec))

    def observed(self) -> Observed:
        """What the operator sees."""
        pods = [parse_pod(pod) for pod in self.pods]
        services = [parse_service(one) for (kind, _), one in self.children.items() if kind == "Service"]
        deployments = [
            parse_deployment(one) for (kind, _), one in self.children.items() if kind == "Deployment"
        ]
        return Observed(
            model=self.owner,
            children={
                SERVICES: {one.name: one for one in services},
                DEPLOYMENTS: {one.name: one for one in deployments},
            },
            pods=[pod for pod in pods if not pod.job],
            job_pods=[pod for pod in pods if pod.job],
            now=gen.moment(self.seconds),
            revisions=[parse_revision(one) for one in self.revisions.values()],
            jobs=[parse_job(one) for one in self.jobs.values()],
        )

    def plan(self) -> Plan:
        """Plan, with answers to its questions."""
        supplies: dict[CapacityQuestion, Supply] = {}
        accounts: dict[AccountQuestion, Any] = {}
        rivals: dict[RivalsQuestion, Rivals] = {}
        for _ in range(8):
            situation = Situation(
                observed=self.observed(),
                configuration=self.configuration,
                nodes=self.nodes,
                answers=Answers(supplies, accounts, rivals),
                pages=self.pages,
                devices=self.devices,
            )
            try:
                return KIND.plan(situation)
            except Unanswered as needs:
                question = needs.question
                if isinstance(question, CapacityQuestion):
                    supplies[question] = Supply(nodes=self.nodes, holds=self.holds)
                elif isinstance(question, RivalsQuestion):
                    rivals[question] = Rivals((self._rival(), *self.rivals), Priorities({}))
                else:
                    accounts[question] = self.accounts.get(question.name)
        raise AssertionError("the plan never stops asking")

    def look(self) -> Judgement:
        """One reconcile: everything that the plan asks for is done, and the status stored."""
        plan = self.plan()
        done = set()
        for resource, manifest in plan.apply or ():
            self.children[resource.kind, manifest["metadata"]["name"]] = gen.stored(manifest)
        for creation in plan.creations:
            self._create(creation.resource, creation.manifest)
            done.add((creation.resource.kind, creation.manifest["metadata"]["name"]))
        for patch in plan.patches:
            if patch.resource is JOBS:
                self.jobs[patch.target.name]["spec"] |= patch.fields["spec"]
            done.add((patch.resource.kind, patch.target.name))
        for deletion in plan.deletions:
            self.jobs.pop(deletion.target.name, None)
            self.revisions.pop(deletion.target.name, None)
            self.deleted.append(deletion.target.name)
        outcome = Outcome(plan.blocked, frozenset(done), devices=self.devices)
        owner = self.owner
        self.judgement = plan.judge(self.observed(), outcome)
        self.status = self.judgement.stored(owner, KIND.conditions, gen.moment(self.seconds))
        return self.judgement

    def _rival(self) -> Rival:
        claim = KIND.claim(self.owner, self.configuration)
        assert claim is not None
        observed = self.observed()
        return see_rival(observed.model, claim, observed.deployment, observed.pods)

    def _create(self, resource: Any, manifest: gen.Object) -> None:
        stored = gen.stored(manifest, uid=f"uid-{manifest['metadata']['name']}")
        stored["metadata"]["creationTimestamp"] = gen.stamp(self.seconds)
        store = self.jobs if resource is JOBS else self.revisions
        assert resource in (JOBS, CONTROLLER_REVISIONS)
        store.setdefault(manifest["metadata"]["name"], stored)

    # --- what others do -----------------------------------------------------------------------------------

    def edit(self, **fields: Any) -> None:
        """The user changes fields of the spec; None removes one."""
        changed = {**self.spec, **fields}
        self.spec = {name: value for name, value in changed.items() if value is not None}
        self.generation += 1

    def run_job(self, **states: gen.Object) -> gen.Object:
        """The pod of the newest Job is on a node; states of its containers by name."""
        job = self.job
        pod = self._job_pod(job, "Pending", states)
        self.pods = [one for one in self.pods if one["metadata"]["name"] != pod["metadata"]["name"]] + [pod]
        return pod

    def end_job(self, **report: Any) -> None:
        """The newest Job ended: its last stage succeeded with this result, or a stage failed.

        The report of the stage ``stage`` (else of the last one) by keyword: ``result``, or ``reason``,
        ``message`` and ``permanent``.
        """
        job = self.job
        names = self.stages()
        stage = report.pop("stage", names[-1])
        failed = "reason" in report
        line = gen.fetch_failure(**report) if stage == "fetch" else StageReport(stage, **report).dump()
        states = {name: gen.ended(0) for name in names[: names.index(stage)]}
        states[stage] = gen.ended(int(failed), line)
        if "fetch" in states and stage != "fetch":
            states["fetch"] = gen.ended(0, FETCHED)
        self.run_job(**states)
        self.pods[-1]["status"]["phase"] = "Failed" if failed else "Succeeded"
        kind = "Failed" if failed else "Complete"
        condition = {"type": kind, "status": "True", "lastTransitionTime": gen.stamp(self.seconds)}
        job["status"] = {"startTime": gen.stamp(self.seconds), "conditions": [condition]}

    def serve(self, *options: gen.Option, count: int = 1) -> None:
        """Pods of the revision that the Deployment carries are in this state; by default they answer."""
        revision = self.deployment["spec"]["template"]["metadata"]["labels"]["serval.dev/revision"]
        pods = [one for one in self.pods if "serval.dev/job" in one["metadata"]["labels"]]
        for index in range(count):
            pod = gen.pod(f"{NAME}-{revision}-{index}", *(options or (gen.ready(),)), revision=revision)
            pod["metadata"]["labels"] |= {
                **gen.labels(NAME, "AcceleratedModel"),
                "serval.dev/owner-uid": UID,
            }
            pods.append(pod)
        self.pods = pods

    # --- what is there ------------------------------------------------------------------------------------

    @property
    def job(self) -> gen.Object:
        """The newest Job."""
        return list(self.jobs.values())[-1]

    @property
    def deployment(self) -> gen.Object:
        """The Deployment."""
        return self.children["Deployment", NAME]

    def stages(self) -> list[str]:
        """Names of the containers of the newest Job."""
        spec = self.job["spec"]["template"]["spec"]
        return [one["name"] for one in (*spec["initContainers"], *spec["containers"])]

    def condition(self, kind: str) -> tuple[str, str, str]:
        """Status, reason and message of a stored condition; empty texts where there is none."""
        found = find(self.status["conditions"], kind)
        return found.get("status", ""), found.get("reason", ""), found.get("message", "")

    def _job_pod(self, job: gen.Object, phase: str, states: Mapping[str, gen.Object]) -> gen.Object:
        template = job["spec"]["template"]
        labels = {**template["metadata"]["labels"], "batch.kubernetes.io/job-name": job["metadata"]["name"]}
        containers = [
            {"name": name, "state": states.get(name, gen.waiting("PodInitializing")), "restartCount": 0}
            for name in self.stages()
        ]
        return {
            "metadata": {
                "name": f"{job['metadata']['name']}-x",
                "namespace": gen.NAMESPACE,
                "uid": f"uid-{job['metadata']['name']}-x",
                "labels": labels,
                "creationTimestamp": gen.stamp(self.seconds),
            },
            "spec": {"nodeName": gen.NODE},
            "status": {
                "phase": phase,
                "podIP": "10.0.0.9",
                "conditions": [
                    {"type": "PodScheduled", "status": "True", "lastTransitionTime": gen.stamp(self.seconds)}
                ],
                "initContainerStatuses": containers[:-1],
                "containerStatuses": containers[-1:],
            },
        }


def converted(world: World, **result: Any) -> World:
    """The same world, where the model is converted and its Deployment made."""
    world.look()
    world.end_job(result={**MADE, **result})
    world.look()
    world.look()
    return world


def served(world: World) -> World:
    """The same world, where the model answers."""
    world.serve()
    world.look()
    return world
