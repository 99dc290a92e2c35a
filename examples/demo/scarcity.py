"""The demo's second act: devices run short, their holder is named, and changes go out as they allow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from examples.demo import load, manifests
from examples.demo.cluster import Cluster
from examples.demo.console import Say, Screen
from examples.demo.load import SteadyLoad, Tally
from examples.demo.model import TrainedModel
from examples.demo.watching import READY, TRUE, Story, condition, follow, tell, until_reason

BUSY = "AcceleratorBusy"
IN_PLACE = "InPlace"
SURGE = "Surge"
BUSY_LIMIT_S = 60.0
SERVING_LIMIT_S = 240.0
GONE_LIMIT_S = 120.0
ANSWERS = 20
"""By each protocol, before a rollout begins under load and after it has ended."""
SHOWN_FAILURES = 3
ENDED = ("Succeeded", "Failed")
NO_ROUTE = (
    "requests go through a forwarded port, which holds on to one pod, and a rollout stops that pod; "
    "a steady load needs a route to the Service, as there is one to the lab's"
)
NO_DEVICE = "the replicas take no device that could run short"


@dataclass(frozen=True, slots=True)
class Promise:
    """Something that Serval promises.

    Attributes
    ----------
    text:
        The promise.
    kept:
        Whether it was kept.
    seen:
        What shows it.
    """

    text: str
    kept: bool
    seen: str


def second_act(screen: Screen, cluster: Cluster, model: TrainedModel, profile: str) -> list[Promise]:
    """Let devices run short, and check what is promised of that; or say why it is not played.

    Parameters
    ----------
    model:
        Served by the ModelDeployment of the first act, with two replicas.
    profile:
        Accelerator profile of both ModelDeployments.

    Raises
    ------
    DemoError
        A step cannot be done, or does not end.
    """
    reason = unplayable(cluster)
    if reason:
        screen.text(f"\nSecond act, scarce devices: not played. {reason[0].upper()}{reason[1:]}.", "yellow")
        return []
    promises: list[Promise] = []
    with screen.step("Second act: a device is wanted, and all are taken") as say:
        promises.append(compete(cluster, model.sha256, profile, say))
    with screen.step("Second act: the holder gives one up") as say:
        promises.append(heal(cluster, say))
    with screen.step("Second act: a change while none is free") as say:
        promises += judge_in_place(roll(cluster, say))
    with screen.step("Second act: a change while one is free, under load") as say:
        dismiss(cluster, say)
        promises += roll_under_load(cluster, model, say)
    with screen.step("Second act: two replicas again") as say:
        scale(cluster, 2, say)
        follow(_watch(cluster, manifests.NAME, SERVING_LIMIT_S), say)
    return promises


def unplayable(cluster: Cluster) -> str:
    """Why the second act cannot be played on a cluster; empty where it can.

    It needs all devices of the kind to be taken, by the two replicas of the first act or others.
    """
    if not cluster.reaches_services:
        return NO_ROUTE
    pods = cluster.select("pods", manifests.NAMESPACE, manifests.pod_selector())
    resource = next((name for pod in pods for name in devices(pod)), "")
    if not resource:
        return NO_DEVICE
    free = free_units(cluster.everything("nodes"), cluster.everything("pods"), resource)
    if free > 0:
        return (
            f"{free} {resource} would be free, so that nobody had to wait; the lab has as many as are taken"
        )
    return ""


def devices(pod: Mapping[str, Any]) -> dict[str, int]:
    """Return what a pod holds of extended resources, whose names have a slash."""
    held: dict[str, int] = {}
    for container in pod["spec"]["containers"]:
        for name, amount in container.get("resources", {}).get("limits", {}).items():
            if "/" in name:
                held[name] = held.get(name, 0) + int(amount)
    return held


def free_units(nodes: Iterable[Mapping[str, Any]], pods: Iterable[Mapping[str, Any]], resource: str) -> int:
    """Return how many units of a resource no pod holds or waits for."""
    there = sum(int(node["status"].get("allocatable", {}).get(resource, 0)) for node in nodes)
    running = (pod for pod in pods if pod.get("status", {}).get("phase") not in ENDED)
    return there - sum(devices(pod).get(resource, 0) for pod in running)


def compete(cluster: Cluster, sha256: str, profile: str, say: Say) -> Promise:
    """Apply a second ModelDeployment, and show what it says of the device that it cannot have."""
    cluster.apply([manifests.model_deployment(sha256, name=manifests.LATECOMER, replicas=1, profile=profile)])
    say(f"applied ModelDeployment {manifests.LATECOMER}: 1 replica, one accelerator of {profile}")
    state = until_reason(_watch(cluster, manifests.LATECOMER, BUSY_LIMIT_S), BUSY)
    say(f"kubectl -n {manifests.NAMESPACE} get mdep")
    for line in cluster.kubectl("get", manifests.RESOURCE, f"--namespace={manifests.NAMESPACE}").splitlines():
        say(f"  {line}")
    message = condition(state, READY)["message"]
    say(f"its message: {message}")
    return judge_holder(state)


def judge_holder(state: Mapping[str, Any]) -> Promise:
    """Whether the status of who waits names who holds the devices, for people and for programs."""
    message = condition(dict(state), READY)["message"]
    holders = state["status"].get("accelerator", {}).get("holders", [])
    named = {f"{one.get('namespace')}/{one.get('name')}" for one in holders}
    holder = f"{manifests.NAMESPACE}/{manifests.NAME}"
    kept = holder in message and holder in named
    return Promise("the holder of the devices is named", kept, ", ".join(sorted(named)) or "nobody")


def heal(cluster: Cluster, say: Say) -> Promise:
    """Scale the holder down, and follow the one that waits until it serves."""
    scale(cluster, 1, say)
    state = follow(_watch(cluster, manifests.LATECOMER, SERVING_LIMIT_S), say)
    # Where it did not serve, following it was an error.
    return Promise("who waits serves once one is given up", kept=True, seen=condition(state, READY)["reason"])


def scale(cluster: Cluster, replicas: int, say: Say) -> None:
    """Scale the ModelDeployment of the first act, as a user would."""
    command = ["scale", manifests.RESOURCE, manifests.NAME, f"--replicas={replicas}"]
    cluster.kubectl(*command, f"--namespace={manifests.NAMESPACE}")
    say(f"kubectl -n {manifests.NAMESPACE} scale mdep {manifests.NAME} --replicas={replicas}")


def dismiss(cluster: Cluster, say: Say) -> None:
    """Delete the second ModelDeployment, and wait until its device is free."""
    pods = _pods(cluster, manifests.LATECOMER)
    cluster.delete(manifests.RESOURCE, manifests.LATECOMER, manifests.NAMESPACE)
    cluster.wait_gone(pods, manifests.NAMESPACE, GONE_LIMIT_S)
    say(f"deleted ModelDeployment {manifests.LATECOMER}; its device is free")


def roll(cluster: Cluster, say: Say) -> Story:
    """Change what the pods are made of, and tell the rollout's story until no older pod is left."""
    old = _pods(cluster, manifests.NAME)
    change = manifests.change(datetime.now(UTC).isoformat())
    cluster.patch(manifests.RESOURCE, manifests.NAME, manifests.NAMESPACE, change)
    say(f"changed podMetadata of {manifests.NAME}; kubectl -n {manifests.NAMESPACE} get mdep --watch:")
    story = tell(_watch(cluster, manifests.NAME, SERVING_LIMIT_S), lambda row: say(f"  {row}"))
    cluster.wait_gone(old, manifests.NAMESPACE, GONE_LIMIT_S)
    return story


def roll_under_load(cluster: Cluster, model: TrainedModel, say: Say) -> list[Promise]:
    """Roll while requests come, from before the change until the old pod is gone."""
    ports = (manifests.GRPC_PORT, manifests.SCORING_PORT)
    with cluster.reach(manifests.NAME, manifests.NAMESPACE, ports) as addresses:
        question = load.Question(
            addresses[manifests.GRPC_PORT],
            f"http://{addresses[manifests.SCORING_PORT]}",
            manifests.NAME,
            model.images[0].data,
        )
        with SteadyLoad(load.plain(question)) as steady:
            say("a steady load begins: gRPC over one channel that is held, and HTTP")
            steady.until_answers(ANSWERS)
            story = roll(cluster, say)
            steady.until_answers(ANSWERS)
    for kind, tally in steady.tallies.items():
        say(f"{kind}: {tally.requests} requests, {len(tally.failures)} failed")
        for failure in tally.failures[:SHOWN_FAILURES]:
            say(f"  {failure}")
    return [*judge_surge(story), judge_load(steady.tallies)]


def judge_in_place(story: Story) -> list[Promise]:
    """What is promised of a rollout while no device is free."""
    return [
        Promise(
            "none free: a change goes in place",
            story.strategies == {IN_PLACE},
            _said(story.strategies),
        ),
        Promise(
            "none free: waiting for the predecessor's is progress",
            BUSY not in story.reasons,
            _said(story.reasons),
        ),
    ]


def judge_surge(story: Story) -> list[Promise]:
    """What is promised of a rollout while a device is free."""
    return [
        Promise("one free: a change surges", story.strategies == {SURGE}, _said(story.strategies)),
        Promise(
            "one free: the model is available throughout",
            story.available == {TRUE},
            f"Available={_said(story.available)}",
        ),
    ]


def judge_load(tallies: Mapping[str, Tally]) -> Promise:
    """Whether every request was answered."""
    failed = sum(len(tally.failures) for tally in tallies.values())
    requests = sum(tally.requests for tally in tallies.values())
    return Promise("one free: no request fails meanwhile", failed == 0, f"{failed} of {requests} failed")


def show_promises(screen: Screen, promises: Sequence[Promise]) -> None:
    """Print what was promised, what was seen, and whether that is the same."""
    if promises:
        rows = [[one.text, one.seen, "kept" if one.kept else "broken"] for one in promises]
        screen.table("Promises of the second and third act", ["promise", "seen", ""], rows)


def _watch(cluster: Cluster, name: str, limit_s: float) -> Iterable[dict[str, Any]]:
    return cluster.watch(manifests.RESOURCE, name, manifests.NAMESPACE, limit_s)


def _pods(cluster: Cluster, name: str) -> list[str]:
    pods = cluster.select("pods", manifests.NAMESPACE, manifests.pod_selector(name))
    return [pod["metadata"]["name"] for pod in pods]


def _said(words: Iterable[str]) -> str:
    return ", ".join(sorted(words)) or "nothing"
